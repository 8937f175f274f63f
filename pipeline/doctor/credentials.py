"""Who we are: the AWS credentials, without a word of what they are."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pipeline.doctor.account import Account, Credentials, reason_elsewhere
from pipeline.errors import DestinationError
from pipeline.reporting.examinations import Finding
from pipeline.reporting.text import duration, moment

ENDS_SOON = timedelta(minutes=15)  # a first sync of a large source takes longer

# botocore's words for where credentials come from.
_ORIGINS = {
    "assume-role": "a role, taken on by the profile",
    "assume-role-with-web-identity": "a role, by the web identity token of this job or pod",
    "config-file": "the AWS config file",
    "container-role": "the role of this container",
    "custom-process": "a program that the profile names",
    "env": "environment variables",
    "iam-role": "the role of this EC2 instance",
    "login": "`aws login`",
    "shared-credentials-file": "the AWS credentials file",
    "sso": "IAM Identity Center, by `aws sso login`",
}


async def check_credentials(account: Account) -> Sequence[Finding]:
    try:
        credentials = await account.credentials()
    except DestinationError as error:
        return [Finding("credentials", "problem", str(error))]
    return [judge_credentials(credentials, account.connection.profile, datetime.now(UTC))]


def judge_credentials(credentials: Credentials, profile: str | None, now: datetime) -> Finding:
    origin = _ORIGINS.get(credentials.method, credentials.method)
    found = f"from {origin}{f', profile {profile}' if profile else ''}"
    if credentials.expire_at is None:
        return Finding("credentials", "ok", found)
    left = credentials.expire_at - now
    if left <= timedelta():
        cure = "Log in again, or see why the role gives no new ones."
        return Finding("credentials", "problem", f"{found}; expired {moment(credentials.expire_at.timestamp())}", cure)
    found = f"{found}; they end in {duration(left.total_seconds())}"
    if credentials.renew_themselves and credentials.method != "sso":
        return Finding("credentials", "ok", f"{found} and are renewed by themselves")
    if left < ENDS_SOON:
        return Finding("credentials", "warning", found, "Renew them before a longer run.")
    return Finding("credentials", "ok", found)


async def check_caller(account: Account) -> Sequence[Finding]:
    try:
        caller = await account.caller()
    except DestinationError as error:
        if reason := reason_elsewhere(error):
            return [Finding("identity", "not_known", reason)]
        is_no = error.code in _NOT_VALID
        cure = _NOT_VALID.get(error.code, "") or "STS could not be asked; the memory itself may still be reached."
        return [Finding("identity", "problem" if is_no else "not_known", str(error), cure)]
    return [Finding("identity", "ok", f"{caller.arn}, account {caller.account}")]


_NOT_VALID = {
    "ExpiredToken": "Renew the credentials.",
    "ExpiredTokenException": "Renew the credentials.",
    "InvalidClientTokenId": "AWS does not know this access key: it was deleted, or is of another partition.",
    "SignatureDoesNotMatch": "The secret does not belong to the access key, or the clock of this machine is wrong.",
    "UnrecognizedClientException": "AWS does not know this access key.",
}
