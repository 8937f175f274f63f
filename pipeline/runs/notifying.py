"""Tells people how the runs of a source end, as its settings say."""

import os
import socket
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import anyio
import structlog
from pydantic import TypeAdapter, ValidationError

from pipeline.configuration.settings import SourceSettings
from pipeline.errors import ConfigurationError, SyncError
from pipeline.files import make_folder
from pipeline.report import SourceReport
from pipeline.reporting.notices import Notice, Told, due, note, notice, told
from pipeline.reporting.text import moment
from pipeline.runs.parts import is_running, open_source_state

if TYPE_CHECKING:
    from pipeline.reporting.notifications import Sent

TOLD_FILE = "notified.json"  # in the state folder
SECONDS_PER_HOUR = 3600.0

_TOLD = TypeAdapter(Told)


def addresses_of(settings: SourceSettings) -> list[str]:
    """Where notices of a source go; empty if nobody is to be told.

    Raises:
        ConfigurationError: the environment does not hold them.
    """
    variable = settings.notify.urls_variable
    if variable is None:
        return []
    addresses = os.environ.get(variable, "").split()
    if not addresses:
        raise ConfigurationError(
            f"the environment variable {variable}, which `notify.urls_variable` names, is not set; it is to hold the"
            " addresses that notices go to, such as `slack://…` or `mailto://…`",
            path=str(settings.file),
        )
    return addresses


async def notify(
    settings: SourceSettings, addresses: Sequence[str], report: SourceReport, *, is_tried_again: bool = False
) -> None:
    """Tell how a run has ended, if that is news; a warning in the log says what could not be told.

    `is_tried_again`: another run begins at this moment.
    """
    chosen, now = settings.notify, time.time()
    stands = note(read_told(settings), report.status, on=chosen.on, now=now)
    news = due(stands, on=chosen.on, remind_every_s=chosen.remind_every_h * SECONDS_PER_HOUR, now=now)
    if news is not None:
        said = notice(
            news,
            report,
            path=str(settings.file),
            host=socket.gethostname(),
            now=now,
            is_tried_again=is_tried_again,
        )
        # One is enough: whoever else is to hear of it must not hinder, nor those who have heard be told each time.
        if any(sent.problem is None for sent in await send_all(settings, addresses, said)):
            stands = told(stands, news.occasion, now)
    try:
        write_told(settings, stands)
    except OSError as error:
        consequence = "the same may be told again after the next run"
        structlog.get_logger().warning(
            "notice_not_remembered", source=settings.name, problem=error.strerror, consequence=consequence
        )


async def notify_of_unfinished(settings: SourceSettings, addresses: Sequence[str]) -> None:
    """Tell, before a run begins, that the one before it never came to its end: itself it could tell nobody."""
    try:
        async with open_source_state(settings, is_read_only=True) as state:
            runs = await state.runs(limit=1)
            if not runs or runs[0].report is not None or await is_running(settings, state):
                return
    except SyncError:  # of which the run itself tells
        return
    began = moment(runs[0].started_at)
    problem = (
        f"The run of {began} never came to its end: it was killed, or the machine went down. Another one begins now."
    )
    await notify(settings, addresses, SourceReport(settings.name, status="failed", error=problem), is_tried_again=True)


async def notify_of_process(settings: SourceSettings, problem: str) -> None:
    """Tell of a process that was to run the source and has ended without a run that could tell of itself."""
    try:
        addresses = addresses_of(settings)
    except ConfigurationError:  # which may be why
        return
    if addresses:
        await notify(settings, addresses, SourceReport(settings.name, status="failed", error=problem))


async def send_all(settings: SourceSettings, addresses: Sequence[str], said: Notice) -> "list[Sent]":
    """Send a notice; what could not be sent is in the log as well."""
    from pipeline.reporting.notifications import send  # noqa: PLC0415 - 0.2 s, for those who are told something

    outcomes = await anyio.to_thread.run_sync(partial(send, said, addresses, within_s=settings.notify.timeout_s))
    for sent in outcomes:
        if sent.problem is not None:
            structlog.get_logger().warning(
                "notice_not_sent",
                source=settings.name,
                occasion=said.occasion,
                service=sent.service,
                problem=sent.problem,
            )
    return outcomes


# ------------------------------------------------------------------------------------- what was told already


def read_told(settings: SourceSettings) -> Told:
    """What people know of a source. A file that cannot be read counts as nobody knowing anything."""
    try:
        return _TOLD.validate_json((settings.state_folder / TOLD_FILE).read_bytes())
    except (OSError, ValidationError):
        return Told()


def write_told(settings: SourceSettings, stands: Told) -> None:
    """Keep what people know of a source, in one step.

    Raises:
        OSError: it cannot be written; they may be told once more than they should.
    """
    path = settings.state_folder / TOLD_FILE
    if stands == read_told(settings) or (stands == Told() and not path.exists()):
        return
    make_folder(path.parent)
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(_TOLD.dump_json(stands))
    unfinished.replace(path)
