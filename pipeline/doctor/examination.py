"""All that `memsync doctor` looks at for one source."""

import shlex
import time
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial

from pipeline.configuration.settings import LOCAL_MEMORY_FILE, SourceSettings
from pipeline.configuration.values import LOCAL
from pipeline.doctor.account import Account, open_account
from pipeline.doctor.checks import Check, run_checks
from pipeline.doctor.credentials import check_caller, check_credentials
from pipeline.doctor.measuring import check_measured
from pipeline.doctor.memory import check_clock, check_memory, check_region
from pipeline.doctor.permissions import check_reads, check_writes
from pipeline.doctor.quotas import check_quotas
from pipeline.doctor.settings import check_configuration, check_packages, check_secrets
from pipeline.doctor.source import SOURCE_LIMIT_S, check_source
from pipeline.doctor.state import check_folder, check_state
from pipeline.errors import DestinationError
from pipeline.mapping import namespace_root
from pipeline.reporting.examinations import ExaminedSource, Finding
from pipeline.runs.parts import connection_of, open_destination, record_rules

GRACE_S = 3.0  # for a check that ends by itself when its time is over


async def examine(settings: SourceSettings, file: str) -> ExaminedSource:
    """Look at all that a run of the source needs; `file` is its YAML file, as short as it can be typed.

    Changes nothing, neither here nor in the memory.
    """
    typed = shlex.quote(file)
    here = [
        Check("configuration", partial(check_configuration, settings)),
        Check("packages", partial(check_packages, settings)),
        Check("secrets", partial(check_secrets, settings)),
        Check("source", partial(check_source, settings), SOURCE_LIMIT_S + GRACE_S, when_silent="problem"),
        Check("state folder", partial(check_folder, settings), when_silent="problem"),
        Check("state", partial(check_state, settings, typed), when_silent="problem"),
    ]
    if settings.destination.endpoint_url == LOCAL:
        findings = await run_checks([*here, Check("memory", partial(check_embedded_memory, settings)), _NO_AWS])
    else:
        async with open_account(connection_of(settings, settings.destination.endpoint_url)) as account:
            findings = await run_checks([*here, *checks_of_aws(settings, account, typed)])
    return ExaminedSource(settings.name, file, findings)


def checks_of_aws(settings: SourceSettings, account: Account, file: str) -> list[Check]:
    of_the_memory = [
        Check("region", partial(check_region, account), when_silent="problem"),
        Check("memory", partial(check_memory, account, settings.record)),
        Check("clock", partial(check_clock, account)),
        Check("timing", partial(check_measured, settings, file, time.time())),
        Check("reading the memory", partial(check_reads, account, namespace_root(record_rules(settings)), file)),
    ]
    if settings.destination.is_on_this_machine:
        return [*of_the_memory, _NO_ACCOUNT]
    return [
        Check("credentials", partial(check_credentials, account)),
        Check("identity", partial(check_caller, account)),
        *of_the_memory,
        Check("writing the memory", partial(check_writes, account, file)),
        Check("quotas", partial(check_quotas, account, settings.writers)),
    ]


async def check_embedded_memory(settings: SourceSettings) -> Sequence[Finding]:
    """Whether the local memory beside the YAML file can be read; it is made by the first run, not by this."""
    file = settings.state_folder.parent / LOCAL_MEMORY_FILE
    if not file.exists():
        return [Finding("memory", "ok", "on this machine; none yet, the first run makes it")]

    try:
        async with (
            open_destination(settings) as memory,
            aclosing(memory.list_records(namespace_path=namespace_root(record_rules(settings)))) as pages,
        ):
            count = len(await anext(pages))
    except DestinationError as error:
        return [Finding("memory", "problem", str(error))]
    holds = "records of this source" if count else "nothing of this source"
    return [Finding("memory", "ok", f"on this machine: {file}, which holds {holds}")]


async def _skip_aws() -> Sequence[Finding]:
    skipped = "credentials, region, permissions, quotas: a memory on this machine needs none"
    return [Finding("AWS", "skipped", skipped)]


async def _skip_account() -> Sequence[Finding]:
    skipped = "credentials, write permissions, quotas: a memory on this machine checks none"
    return [Finding("AWS account", "skipped", skipped)]


_NO_AWS = Check("AWS", _skip_aws)
_NO_ACCOUNT = Check("AWS account", _skip_account)
