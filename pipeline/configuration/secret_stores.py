"""Where references lead: this machine, AWS Secrets Manager, the SSM Parameter Store, the keyring of the user.

AWS is asked with the region and the profile of the source's destination; a secret that is named by its ARN, in the
region that this tells. Endpoints come the usual AWS way, such as AWS_ENDPOINT_URL_SECRETS_MANAGER.
"""

import json
import shlex
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio import Lock, create_task_group
from anyio.to_thread import run_sync

from pipeline.configuration.local_references import local_value
from pipeline.references import Reference

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 15
ATTEMPTS_MAX = 4  # of one question to AWS


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the names in references are relative to."""

    base_folder: Path
    region: str | None = None
    profile: str | None = None


async def look_up(references: Collection[Reference], around: Surroundings) -> Mapping[Reference, str | LookupError]:
    """What each of `references` stands for; or why it cannot be told, and what to do."""
    found: dict[Reference, str | LookupError] = {}
    aws = _Aws(around)
    ways: Mapping[str, Callable[[Reference], Coroutine[Any, Any, str]]] = {
        "env": lambda reference: run_sync(local_value, reference, around.base_folder),
        "file": lambda reference: run_sync(local_value, reference, around.base_folder),
        "aws-sm": aws.secret,
        "ssm": aws.parameter,
        "keyring": lambda reference: run_sync(_password, reference),
    }

    async def ask(reference: Reference) -> None:
        try:
            found[reference] = await ways[reference.scheme](reference)
        except LookupError as error:
            found[reference] = error

    async with create_task_group() as tasks:
        for reference in set(references):
            tasks.start_soon(ask, reference)
    return found


# --------------------------------------------------------------------------------------------------------- AWS


class _Aws:
    """Asks AWS, for each secret once, whatever the number of keys in it that are wanted."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._text_by_secret: dict[str, str] = {}
        self._one_at_a_time = Lock()

    async def secret(self, reference: Reference) -> str:
        name, _, key = reference.name.partition("#")
        async with self._one_at_a_time:
            if name not in self._text_by_secret:
                self._text_by_secret[name] = await self._secret_text(reference, name)
        text = self._text_by_secret[name]
        return _value_at(text, key, reference) if key else text

    async def _secret_text(self, reference: Reference, name: str) -> str:
        answer = await self._ask(
            "secretsmanager",
            reference,
            "secretsmanager:GetSecretValue",
            lambda client: client.get_secret_value(SecretId=name),
        )
        if "SecretString" not in answer:
            raise LookupError(f"the secret of {reference} is binary; store it as text")
        return str(answer["SecretString"])

    async def parameter(self, reference: Reference) -> str:
        answer = await self._ask(
            "ssm",
            reference,
            "ssm:GetParameter",
            lambda client: client.get_parameter(Name=reference.name, WithDecryption=True),
        )
        return str(answer["Parameter"]["Value"])

    async def _ask(
        self,
        service: str,
        reference: Reference,
        permission: str,
        question: Callable[[Any], Coroutine[Any, Any, Mapping[str, Any]]],
    ) -> Mapping[str, Any]:
        from botocore.exceptions import (  # noqa: PLC0415 - 0.6 s, which only such a reference is to cost
            BotoCoreError,
            ClientError,
            NoCredentialsError,
            NoRegionError,
        )

        try:
            async with self._client(service, reference) as client:
                return await question(client)
        except NoRegionError as error:
            raise LookupError(
                f"AWS cannot be asked for {reference} without a region; set destination.region"
            ) from error
        except NoCredentialsError as error:
            raise LookupError(
                f"AWS cannot be asked for {reference} without credentials; give them the usual AWS way"
            ) from error
        except ClientError as error:
            raise LookupError(_refusal(reference, permission, error.response.get("Error", {}))) from error
        except (BotoCoreError, OSError) as error:
            raise LookupError(f"AWS could not be asked for {reference}: {error}; run it again") from error

    def _client(self, service: str, reference: Reference) -> AbstractAsyncContextManager[Any]:
        from aiobotocore.config import AioConfig  # noqa: PLC0415 - see above
        from aiobotocore.session import AioSession  # noqa: PLC0415

        parts = reference.name.split(":")
        config = AioConfig(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": ATTEMPTS_MAX, "mode": "standard"},
            user_agent_extra="memsync",
        )
        client: AbstractAsyncContextManager[Any] = AioSession(profile=self._around.profile).create_client(
            service,
            region_name=parts[3] if parts[0] == "arn" and len(parts) > 3 else self._around.region,
            config=config,
        )
        return client


def _refusal(reference: Reference, permission: str, error: Mapping[str, str]) -> str:
    code, said = error.get("Code", "unknown error"), error.get("Message", "")
    advice = "run it again when AWS does what it should"
    if code in ("ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound", "ValidationException"):
        advice = (
            "correct the name, or the region and the account that it is looked for in (destination.region, profile)"
        )
    elif code.startswith("AccessDenied") or code in ("UnrecognizedClientException", "DecryptionFailure"):
        advice = f"allow {permission}, and kms:Decrypt if it has a key of its own, to whoever runs memsync"
    elif "Token" in code:
        advice = "renew the AWS credentials"
    return f"AWS does not give {reference}: {code}{f', {said!r}' if said else ''}; {advice}"


def _value_at(text: str, key: str, reference: Reference) -> str:
    try:
        value = json.loads(text)[key]
    except KeyError:
        raise LookupError(f"the secret of {reference} has no key {key!r}; correct it, or add it there") from None
    except (ValueError, TypeError, LookupError):
        raise LookupError(
            f"the secret of {reference} is no JSON object, so that there are no keys in it; leave out #{key}"
        ) from None
    if isinstance(value, dict | list) or value is None:
        raise LookupError(f"the key {key!r} of {reference} holds neither text nor a number; store it as text")
    return value if isinstance(value, str) else json.dumps(value)


# ----------------------------------------------------------------------------------------------------- keyring


def _password(reference: Reference) -> str:
    service, _, user = reference.name.rpartition("/")
    try:
        import keyring  # noqa: PLC0415 - an extra
        from keyring.errors import KeyringError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise LookupError(
            f"{reference} needs a package that is not installed: pip install 'agentcore-memory-sync[keyring]'"
        ) from error
    try:
        password: str | None = keyring.get_password(service, user)
    except KeyringError as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise LookupError(f"the keyring cannot be asked for {reference}: {said}; unlock it, or set one up") from error
    if password is None:
        stored = shlex.join(["keyring", "set", service, user])
        raise LookupError(f"the keyring has nothing for {reference}; store it: {stored}")
    return password
