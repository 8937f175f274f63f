"""What commands share: their arguments, how they end, and what they print."""

import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import click

from pipeline.early_signals import EXIT_SIGNAL, end_with_code, raise_interrupts
from pipeline.errors import ConfigurationError, SourceLocked, SyncError, ungrouped

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pipeline.configuration.settings import SourceSettings
    from pipeline.reporting.text import Style
    from pipeline.runs.runner import Stop

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_LOCKED = 5
END_S = 5.0  # how long the threads of libraries may go on when all is done


def completed_by(name: str) -> Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]:
    """The completion of that name in `pipeline.commands.completing`, which is imported when Tab is pressed."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        from pipeline.commands import completing

        return completing.quietly(getattr(completing, name))(context, parameter, incomplete)

    return complete


_path = partial(click.argument, type=click.Path(path_type=Path), shell_complete=completed_by("yaml_files"))
paths_argument = _path("paths", metavar="PATH...", nargs=-1, required=True)
path_argument = _path("path", metavar="PATH")
source_option = click.option(
    "--source",
    "names",
    metavar="NAME",
    multiple=True,
    help="Only this source; repeatable.",
    shell_complete=completed_by("source_names"),
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object last on stdout.")


def command(
    function: Callable[Parameters, Coroutine[Any, Any, int]],
) -> Callable[Parameters, None]:
    """Run an async command and exit with the code that it returns; known errors become a message, not a trace."""

    @wraps(function)
    def run(*arguments: Parameters.args, **named: Parameters.kwargs) -> None:
        end_with(lambda: wait_for(partial(function, *arguments, **named)))

    return run


def end_with(work: Callable[[], int]) -> NoReturn:
    """Exit with the code that `work` returns; known errors become a message, not a trace."""
    try:
        raise_interrupts()
        code = work()
        sys.stdout.flush()
    except ConfigurationError as error:
        click.echo(f"memsync: {safe(str(error))}", err=True)
        code = EXIT_CONFIGURATION
    except SyncError as error:
        click.echo(f"memsync: {safe(str(error))}", err=True)
        code = EXIT_FAILED
    except KeyboardInterrupt:
        code = EXIT_SIGNAL + signal.SIGINT
    except OSError as error:  # such as a full disk, or a reader of our output that has had enough
        with suppress(OSError):
            click.echo(f"memsync: the result could not be written: {error.strerror}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered would fail again
        code = EXIT_FAILED
    end_with_code(code)
    _end_in_time(code)
    sys.exit(code)


def agreed(question: str, *, default: bool = False, otherwise: str) -> bool:
    """Whether a person at the terminal says yes.

    `otherwise` says what was not done, should the answer be Ctrl-C or the end of all input.

    Raises:
        KeyboardInterrupt: it was one of these, and the person was told.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # an event loop's would wait for us to let go of it, and have Ctrl-C do nothing
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return click.confirm(question, default=default, err=True)
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"\nmemsync: stopped; {otherwise}", err=True)
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(function: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run `function` to its end; of several errors, raise the first that says what happened."""
    import anyio

    return anyio.run(partial(_without_groups, function))


def _end_in_time(code: int) -> None:
    """See that this process ends: Python would wait for a thread of a library that waits for a server for ever."""
    timer = threading.Timer(END_S, os._exit, [code])
    timer.daemon = True
    timer.start()


async def _without_groups(function: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    with ungrouped():
        return await function()


@asynccontextmanager
async def stopping() -> AsyncIterator["Stop"]:
    """A `Stop` that SIGINT and SIGTERM ask for; a second signal ends the process on the spot."""
    from anyio import create_task_group, open_signal_receiver

    from pipeline.runs.runner import Stop

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


def exit_code_of(errors: Sequence[SyncError]) -> int:
    """The code for what kept sources from being looked at: only locks is what a later try mends by itself."""
    if not errors:
        return 0
    return EXIT_LOCKED if all(isinstance(error, SourceLocked) for error in errors) else EXIT_FAILED


def load(paths: Sequence[Path], names: Sequence[str]) -> "list[SourceSettings]":
    from pipeline.configuration.loading import load_sources

    sources = load_sources(paths)
    known = [settings.name for settings in sources]
    for name in names:
        if name not in known:
            raise ConfigurationError(f"there is no source {name!r} here; there are {', '.join(known)}")
    return [settings for settings in sources if not names or settings.name in names]


def files_of(sources: "Sequence[SourceSettings]") -> dict[str, str]:
    """The YAML file of each source, as short as it can be typed from here."""
    return {settings.name: typed(settings.file) for settings in sources}


def typed(file: Path) -> str:
    """The path of `file`, as short as it can be typed from here."""
    return min(str(file), os.path.relpath(file), key=len)


def print_json(schema: str, **members: Any) -> None:
    print(json.dumps({"schema": schema, **members}))  # noqa: T201


def style_here() -> "Style":
    from pipeline.reporting.text import Style

    return Style.of(sys.stdout)


def safe(text: str) -> str:
    """`text` with what could drive a terminal made visible; line ends stay."""
    from pipeline.reporting.text import printable

    return "\n".join(printable(line) for line in text.split("\n"))
