"""The configured rate and concurrency beside what the account allows."""

from collections.abc import Mapping, Sequence

from pipeline.configuration.settings import WriterSettings
from pipeline.doctor.account import Account, reason_elsewhere
from pipeline.errors import DestinationError
from pipeline.model import Call, Lookup, Operation
from pipeline.reporting.examinations import Finding
from pipeline.reporting.text import duration

# The AgentCore quotas page, November 2026: requests per second of an account and region, unless they were raised.
DOCUMENTED: dict[Call, float] = {
    Operation.CREATE: 20.0,
    Operation.UPDATE: 20.0,
    Operation.DELETE: 20.0,
    Lookup.LIST: 30.0,
    Lookup.GET: 20.0,
}
ANSWER_S = 0.3  # what a write of a full batch was seen to take


async def check_quotas(account: Account, writers: WriterSettings) -> Sequence[Finding]:
    try:
        found = await account.quotas()
    except DestinationError as error:
        if reason := reason_elsewhere(error):
            return [Finding("quotas", "not_known", reason)]
        return [judge_quotas(writers, {}, error)]
    return [judge_quotas(writers, found, None)]


def judge_quotas(writers: WriterSettings, said: Mapping[Call, float], error: DestinationError | None) -> Finding:
    """`said` are the quotas that Service Quotas told, `error` why it did not."""
    quotas = {**DOCUMENTED, **said}
    rates = ", ".join(f"{call} {quotas[call]:g}/s" for call in DOCUMENTED)
    origin = "the account's quotas" if said else "AWS documents"
    wanted = writers.requests_per_second
    if wanted is None:
        if error is not None:
            return Finding(
                "quotas",
                "not_known",
                f"Service Quotas could not be asked ({error.code}); {origin}: {rates}",
                "A run then finds the rate by what is refused, from five requests a second on. Allow"
                " servicequotas:ListServiceQuotas, or set writers.requests_per_second.",
            )
        return Finding("quotas", "ok", f"{origin}: {rates}; a run uses 95% of them")
    lowest = min(quotas, key=lambda call: quotas[call])
    configured = f"writers.requests_per_second is {wanted:g}; {origin}: {rates}"
    if wanted > quotas[lowest]:
        return Finding(
            "quotas",
            "warning",
            configured,
            f"More than {quotas[lowest]:g} {lowest} requests a second are refused: time lost, and other users of the"
            " account are slowed down. Leave requests_per_second out, or have the quota raised.",
        )
    keeps_up_to_s = writers.concurrency / wanted
    if keeps_up_to_s < ANSWER_S:
        return Finding(
            "quotas",
            "warning",
            f"{configured}; writers.concurrency {writers.concurrency} is too low for that",
            f"An answer takes some {ANSWER_S:g} s: set writers.concurrency to {round(wanted * ANSWER_S) + 1} or more.",
        )
    kept = f"concurrency {writers.concurrency} keeps up with answers of up to {duration(keeps_up_to_s)}"
    return Finding("quotas", "ok", f"{configured}; {kept}")
