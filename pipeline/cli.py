"""The command line. Each command imports what it needs: `memsync --help` must not wait for the AWS client."""

import gc
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from pipeline.errors import ConfigurationError, SourceLocked, SyncError, ungrouped

if TYPE_CHECKING:
    from pipeline.events import Observer
    from pipeline.model import DeadLetter
    from pipeline.report import SourceReport
    from pipeline.reporting.listings import VerifiedSource
    from pipeline.reporting.source_types import SourceType
    from pipeline.reporting.text import Style
    from pipeline.runner import Outcome, Stop, Verb
    from pipeline.settings import SourceSettings

Parameters = ParamSpec("Parameters")

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_LOCKED = 5
PREVIEWED_MAX = 5  # documents in one file
EXIT_SIGNAL = 128  # plus the number of the signal, as shells do
END_S = 5.0  # how long the threads of libraries may go on when all is done

paths_argument = click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
path_argument = click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
source_option = click.option("--source", "names", metavar="NAME", multiple=True, help="Only this source; repeatable.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object last on stdout.")


def command(
    function: Callable[Parameters, Coroutine[Any, Any, int]],
) -> Callable[Parameters, None]:
    """Run an async command and exit with the code that it returns; known errors become a message, not a trace."""

    @wraps(function)
    def run(*arguments: Parameters.args, **named: Parameters.kwargs) -> None:
        import anyio

        try:
            code = anyio.run(partial(_without_groups, partial(function, *arguments, **named)))
            sys.stdout.flush()
        except ConfigurationError as error:
            click.echo(f"memsync: {_safe(str(error))}", err=True)
            code = EXIT_CONFIGURATION
        except SyncError as error:
            click.echo(f"memsync: {_safe(str(error))}", err=True)
            code = EXIT_FAILED
        except KeyboardInterrupt:
            code = EXIT_SIGNAL + signal.SIGINT
        except OSError as error:  # such as a full disk, or a reader of our output that has had enough
            with suppress(OSError):
                click.echo(f"memsync: the result could not be written: {error.strerror}", err=True)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered would fail again
            code = EXIT_FAILED
        _end_in_time(code)
        sys.exit(code)

    return run


def _end_in_time(code: int) -> None:
    """See that this process ends: Python would wait for a thread of a library that waits for a server for ever."""
    timer = threading.Timer(END_S, os._exit, [code])
    timer.daemon = True
    timer.start()


async def _without_groups(function: Callable[[], Coroutine[Any, Any, int]]) -> int:
    with ungrouped():
        return await function()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="agentcore-memory-sync", message="%(prog)s %(version)s")
def main() -> None:
    """Keep an agent's memory in Amazon Bedrock AgentCore equal to a set of documents.

    PATH is a YAML file that describes a source, or a folder of them.

    Exit codes: 0 in sync, 1 failed, 2 usage or configuration, 3 done with dead letters outstanding, 4 deletions
    withheld by the guard, 5 another run holds the source, 130 and 143 interrupted.
    """
    os.umask(0o077)  # state, outbox and dead letters hold documents: they are their owner's alone
    gc.set_threshold(20_000)  # what flows through forms no circles: looking for them so often costs a tenth of a run


# ------------------------------------------------------------------------------------ run, plan and replay


@main.command("run")
@paths_argument
@source_option
@json_option
@click.option("--allow-mass-delete", is_flag=True, help="Delete even if suspiciously many documents are gone.")
@command
async def run_command(paths: tuple[Path, ...], names: tuple[str, ...], as_json: bool, allow_mass_delete: bool) -> int:
    """Bring the memory up to date.

    Each source is listed, what changed is read, and the memory is made equal to it.
    """
    return await _run_all("run", paths, names, as_json=as_json, allow_mass_delete=allow_mass_delete)


@main.command("plan")
@paths_argument
@source_option
@json_option
@command
async def plan_command(paths: tuple[Path, ...], names: tuple[str, ...], as_json: bool) -> int:
    """Show what a run would do; touch nothing."""
    return await _run_all("plan", paths, names, as_json=as_json)


@main.command("replay")
@paths_argument
@source_option
@json_option
@command
async def replay_command(paths: tuple[Path, ...], names: tuple[str, ...], as_json: bool) -> int:
    """Send the dead letters again.

    Each of their documents is read afresh: a letter that a newer version has overtaken is dropped.
    """
    return await _run_all("replay", paths, names, as_json=as_json)


async def _run_all(
    verb: "Verb", paths: Sequence[Path], names: Sequence[str], *, as_json: bool, allow_mass_delete: bool = False
) -> int:
    sources = _load(paths, names)

    from pipeline.report import EXIT_CODES, overall_status, plan_report, run_report

    with _without("rich"):  # structlog takes it for tracebacks that it never prints here: a sixth of the start
        from pipeline.reporting.logs import LogListener, configure_logging
    from pipeline.runner import new_run_id, run_source

    run_id = new_run_id()
    outcomes: list[Outcome] = []
    on_terminal = sys.stderr.isatty()
    configure_logging(is_terminal=on_terminal, level="WARNING" if on_terminal else "INFO")
    with ExitStack() as stack:
        display: list[Observer] = []
        if on_terminal:
            from pipeline.reporting.progress import ProgressDisplay

            display.append(stack.enter_context(ProgressDisplay(sys.stderr)))
        async with _stopping() as stop:
            for settings in sources:
                log = LogListener(settings.name, run_id)
                outcome = await run_source(
                    settings,
                    verb,
                    run_id=run_id,
                    stop=stop,
                    observers=(log, *display),
                    allow_mass_delete=allow_mass_delete,
                )
                log.close(outcome.report if verb != "plan" else None)
                outcomes.append(outcome)

    reports = [outcome.report for outcome in outcomes]
    _print_summary(verb, outcomes, _files(sources), _style())
    if as_json:
        print(json.dumps((plan_report if verb == "plan" else run_report)(run_id, reports)))  # noqa: T201
    status = overall_status([report.status for report in reports])
    if status == "interrupted":
        return EXIT_SIGNAL + (stop.signal_number or signal.SIGINT)
    # A plan that shows dead letters or a tripped guard has done its work.
    return EXIT_CODES[status] if verb != "plan" or status in ("failed", "locked") else 0


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let what is imported in the block believe that `module` is not installed, unless it is there already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def _print_summary(verb: "Verb", outcomes: Sequence["Outcome"], files: dict[str, str], style: "Style") -> None:
    from pipeline.reporting.summary import render_plan, render_run

    reports = [outcome.report for outcome in outcomes]
    withheld = {outcome.report.name: outcome.withheld for outcome in outcomes if outcome.withheld is not None}
    if verb == "plan":
        click.echo(render_plan(reports, paths=files, withheld=withheld, style=style))
    else:
        click.echo(render_run(reports, paths=files, verb=verb, withheld=withheld, style=style))


@asynccontextmanager
async def _stopping() -> AsyncIterator["Stop"]:
    """A `Stop` that SIGINT and SIGTERM ask for; a second signal ends the process on the spot."""
    from anyio import create_task_group, open_signal_receiver

    from pipeline.runner import Stop

    stop = Stop()

    async def listen() -> None:
        with open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                if stop.signal_number is not None:
                    os._exit(EXIT_SIGNAL + number)
                stop.ask(number)

    async with create_task_group() as tasks:
        tasks.start_soon(listen)
        yield stop
        tasks.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------- looking at it


@main.command("dead-letters")
@paths_argument
@source_option
@json_option
@command
async def dead_letters_command(paths: tuple[Path, ...], names: tuple[str, ...], as_json: bool) -> int:
    """List the dead letters, by reason."""
    from pipeline.letters import to_json
    from pipeline.reporting.listings import render_dead_letters
    from pipeline.runner import open_source_state

    letters: list[DeadLetter] = []
    sources = _load(paths, names)
    for settings in sources:
        async with open_source_state(settings, is_read_only=True) as state:
            letters += await state.letters()
    if as_json:
        _print_json("memsync/dead-letters/1", dead_letters=[json.loads(to_json(letter)) for letter in letters])
    else:
        click.echo(render_dead_letters(letters, paths=_files(sources), style=_style()))
    return 0


@main.command("status")
@paths_argument
@json_option
@command
async def status_command(paths: tuple[Path, ...], as_json: bool) -> int:
    """Show how each source stands.

    Its last run, whether that left it in sync, its records and dead letters, and when it is due.
    """
    from pipeline.reporting.listings import render_status
    from pipeline.status import status_row

    rows = [await status_row(settings) for settings in _load(paths, ())]
    if as_json:
        _print_json("memsync/status/1", sources=[asdict(row) for row in rows])
    else:
        click.echo(render_status(rows, style=_style()))
    return 0


@main.command("verify")
@paths_argument
@source_option
@json_option
@click.option("--repair", is_flag=True, help="Mend what can be proven, and run the source.")
@command
async def verify_command(paths: tuple[Path, ...], names: tuple[str, ...], as_json: bool, repair: bool) -> int:
    """Compare source, ledger and memory.

    With --repair, what is missing or was changed is written again, what the ledger did not know is taken over, and
    second copies are deleted, by a run that keeps its usual rules.
    """
    from pipeline.reporting.listings import VerifiedSource, render_verify

    look = _verified_and_repaired if repair else _verified
    results, errors = [], []
    sources = _load(paths, names)
    for settings in sources:
        try:
            results.append(await look(settings))
        except SyncError as error:
            errors.append(error)
            results.append(VerifiedSource(settings.name, error=str(error)))
    if as_json:
        _print_json("memsync/verify/1", sources=[asdict(result) for result in results])
    else:
        click.echo(render_verify(results, paths=_files(sources), style=_style()))
    return _exit_code_of(errors) or (0 if all(result.is_equal for result in results) else EXIT_FAILED)


def _exit_code_of(errors: Sequence[SyncError]) -> int:
    """The code for what kept sources from being looked at: only locks is what a later try mends by itself."""
    if not errors:
        return 0
    return EXIT_LOCKED if all(isinstance(error, SourceLocked) for error in errors) else EXIT_FAILED


async def _verified(settings: "SourceSettings") -> "VerifiedSource":
    from pipeline.reporting.listings import ComparedDocuments, VerifiedSource
    from pipeline.runner import verify_source

    found, compared = await verify_source(settings)
    documents = (
        ComparedDocuments(error=str(compared))
        if isinstance(compared, SyncError)
        else ComparedDocuments(**asdict(compared))
    )
    return VerifiedSource(settings.name, **asdict(found), documents=documents)


async def _verified_and_repaired(settings: "SourceSettings") -> "VerifiedSource":
    from pipeline.reporting.listings import VerifiedSource
    from pipeline.runner import count_unattributed, new_run_id, repair_source, run_source

    found = await repair_source(settings)
    unattributed = await count_unattributed(settings)
    async with _stopping() as stop:
        outcome = await run_source(settings, "run", run_id=new_run_id(), stop=stop)
    if claimed := unattributed - await count_unattributed(settings):
        found = replace(found, unattributed=found.unattributed - claimed, examples=[])  # which are left is not known
    report = outcome.report
    is_repaired = report.status in ("in_sync", "dead_letters") and not report.withheld_documents
    error = None if is_repaired else _why_not_repaired(report)
    return VerifiedSource(settings.name, **asdict(found), is_repaired=is_repaired, error=error)


def _why_not_repaired(report: "SourceReport") -> str:
    """The ledger is mended; the run that was to bring the memory in line was not allowed to, or failed."""
    if report.error is not None:
        return report.error
    if report.withheld_documents:
        return (
            f"The run withheld the deletion of {report.withheld_documents} documents. See whether they are really gone"
            " from the source; if so, run it with --allow-mass-delete."
        )
    return "The run was interrupted; run it again."


@main.command("recover")
@paths_argument
@source_option
@json_option
@command
async def recover_command(paths: tuple[Path, ...], names: tuple[str, ...], as_json: bool) -> int:
    """Rebuild a lost ledger from the memory.

    Each record in the memory says which document it is of. So a new machine carries on where another one left off, and
    nothing is written a second time. Takes a minute or two: listings of the memory lag behind.
    """
    from pipeline.reporting.listings import RecoveredSource, render_recover
    from pipeline.runner import recover_source

    results, errors = [], []
    sources = _load(paths, names)
    for settings in sources:
        if wait_s := settings.destination.listing_lag_s:
            click.echo(
                f"memsync: {_safe(settings.name)}: lists the memory twice, {wait_s:g} s apart, since listings lag",
                err=True,
            )
        try:
            found = await recover_source(settings)
        except SyncError as error:
            errors.append(error)
            results.append(RecoveredSource(settings.name, error=str(error)))
        else:
            results.append(RecoveredSource(settings.name, found.foreign, found.duplicate, found.unattributed))
    if as_json:
        _print_json("memsync/recover/1", sources=[asdict(result) for result in results])
    else:
        click.echo(render_recover(results, paths=_files(sources), style=_style()))
    return _exit_code_of(errors)


@main.command("preview")
@path_argument
@click.argument("document", required=False)
@source_option
@json_option
@click.option("--full", "is_full", is_flag=True, help="Show texts, and files of many documents, to their end.")
@command
async def preview_command(
    path: Path, document: str | None, names: tuple[str, ...], as_json: bool, is_full: bool
) -> int:
    """Show what one document becomes.

    Its text, how that is cut, and the records with their metadata, as they would be sent; and what the document says
    of itself that no record takes up. DOCUMENT is its id in the source (for files, the path), or that of a part of it
    (`mail.eml#report.pdf`); without it, the first that is listed. Touches neither the memory nor the state.
    """
    from pipeline.preview import preview_document
    from pipeline.reporting.previews import render_preview

    sources = _load([path], names)
    if len(sources) > 1:
        known = ", ".join(settings.name for settings in sources)
        raise click.UsageError(f"PATH describes several sources; --source chooses one of {known}.")
    preview = await preview_document(sources[0], document, parts_max=sys.maxsize - 1 if is_full else PREVIEWED_MAX)
    if as_json:
        _print_json("memsync/preview/1", document=asdict(preview))
    else:
        click.echo(render_preview(preview, is_full=is_full, style=_style()))
    return 0


@main.command("search")
@path_argument
@click.argument("query")
@json_option
@click.option("--count", default=5, show_default=True, type=click.IntRange(1, 100), help="How many records to show.")
@command
async def search_command(path: Path, query: str, as_json: bool, count: int) -> int:
    """Ask the memory, as an agent would."""
    if not query.strip():
        raise click.UsageError("QUERY is empty: there is nothing to search for.")
    from pipeline.reporting.listings import render_search
    from pipeline.runner import search_source

    hits = [hit for settings in _load([path], ()) for hit in await search_source(settings, query, count)]
    hits = sorted(hits, key=lambda hit: -hit.score)[:count]
    if as_json:
        _print_json("memsync/search/1", query=query, hits=[asdict(hit) for hit in hits])
    else:
        click.echo(render_search(hits, query=query, style=_style()))
    return 0


@main.command("validate")
@paths_argument
@command
async def validate_command(paths: tuple[Path, ...]) -> int:
    """Check the configuration.

    Faults are named by file:line:column.
    """
    for settings in _load(paths, ()):
        click.echo(f"{_safe(str(settings.file))}: source {settings.name!r} is valid")
    return 0


@main.command("sources")
@click.argument("type_name", metavar="[TYPE]", required=False)
@json_option
@command
async def sources_command(type_name: str | None, as_json: bool) -> int:
    """List the types of sources, or one's options.

    The latter are YAML, to start a configuration from.
    """
    from pipeline.reporting.source_types import render_source_type, render_source_types
    from pipeline.source_types import source_types

    types = source_types()
    if type_name is not None:
        types = [each for each in types if each.type == type_name] or _no_such_type(type_name, types)
        if types[0].problem:
            raise ConfigurationError(types[0].problem)
    if as_json:
        _print_json("memsync/sources/1", types=[asdict(each) for each in types])
    elif type_name is not None:
        click.echo(render_source_type(types[0], style=_style()))
    else:
        click.echo(render_source_types(types, style=_style()))
    return 0


def _no_such_type(type_name: str, types: "Sequence[SourceType]") -> "list[SourceType]":
    from pipeline.setting_faults import did_you_mean

    known = [each.type for each in types]
    raise ConfigurationError(f"there is no type of source {type_name!r}; {did_you_mean(type_name, known)}")


@main.command("local")
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--data", type=click.Path(path_type=Path, dir_okay=False), help="Keep the memory in this SQLite file.")
@click.option("--memory-id", "memory_ids", multiple=True, help="Have this memory from the start; repeatable.")
@click.option("--faults", "faults_text", default="", help="Rehearse trouble; see below.")
@command
async def local_command(port: int, data: Path | None, memory_ids: tuple[str, ...], faults_text: str) -> int:
    """Serve an AgentCore memory on this machine.

    For trying out, for rehearsals and for tests; AWS clients of any language can talk to it.

    Without --memory-id, a memory that has nothing yet takes on the first id that it is asked for.

    --faults takes key=value,key=value: requests_per_second and burst (429 above that rate); throttle,
    error_before_write, error_after_write, drop_before_write, drop_after_write, omit_record (fractions of requests);
    failed_record with failed_record_code (a fraction of records); reject_text with reject_code (records with this
    text fail); poison_text (requests with this text are refused); latency_s, list_lag_s, update_lag_s; seed.
    """
    from anyio import create_task_group

    from pipeline.local_memory import Faults, UnreadableStoreError, serve_forever

    try:
        faults = Faults.parse(faults_text)
    except ValueError as error:
        raise ConfigurationError(f"--faults: {error}") from error

    def announce(url: str) -> None:
        where = f"in {data}" if data else "nowhere: it is gone when this ends"
        click.echo(
            f"Local AgentCore memory at {url}, kept {where}.\n"
            f"Set destination.endpoint_url to {url}; for AWS clients: AWS_ENDPOINT_URL_BEDROCK_AGENTCORE={url}\n"
            "Stop with Ctrl-C."
        )
        sys.stdout.flush()

    async with _stopping() as stop, create_task_group() as tasks:
        with stop.heeded():
            try:
                await serve_forever(
                    data, "127.0.0.1", port, faults, memory_ids, adopt_first=not memory_ids, on_ready=announce
                )
            except (UnreadableStoreError, OSError) as error:
                raise ConfigurationError(f"The local memory cannot be served on port {port}: {error}") from error
        tasks.cancel_scope.cancel()
    return 0


# -------------------------------------------------------------------------------------------------- shared


def _load(paths: Sequence[Path], names: Sequence[str]) -> "list[SourceSettings]":
    from pipeline.settings import load_sources

    sources = load_sources(paths)
    known = [settings.name for settings in sources]
    for name in names:
        if name not in known:
            raise ConfigurationError(f"there is no source {name!r} here; there are {', '.join(known)}")
    return [settings for settings in sources if not names or settings.name in names]


def _files(sources: "Sequence[SourceSettings]") -> dict[str, str]:
    """The YAML file of each source, as short as it can be typed from here."""
    return {settings.name: min(str(settings.file), os.path.relpath(settings.file), key=len) for settings in sources}


def _print_json(schema: str, **members: Any) -> None:
    print(json.dumps({"schema": schema, **members}))  # noqa: T201


def _style() -> "Style":
    from pipeline.reporting.text import Style

    return Style.of(sys.stdout)


def _safe(text: str) -> str:
    """`text` with what could drive a terminal made visible; line ends stay."""
    from pipeline.reporting.text import printable

    return "\n".join(printable(line) for line in text.split("\n"))
