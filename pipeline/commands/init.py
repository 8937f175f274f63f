"""`memsync init`."""

import inspect
import os
import sys
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.init_source import Asked, note, source_draft
from pipeline.commands.shared import completed_by, end_with, style_here, wait_for
from pipeline.errors import ConfigurationError, SourceError

if TYPE_CHECKING:
    from pipeline.commands.questions import Questions
    from pipeline.configuration.settings import SourceSettings
    from pipeline.reporting.looks import Look
    from pipeline.reporting.text import Style
    from pipeline.starting.draft import Draft, Setting

MEMORIES_S = 10.0  # to find credentials and list what there is


@click.command("init")
@click.argument("where", metavar="[FOLDER_OR_URL]", required=False, type=click.Path())
@click.option(
    "--type",
    "type_name",
    metavar="TYPE",
    help="The type of source, if the address does not tell.",
    shell_complete=completed_by("source_types"),
)
@click.option("--name", metavar="NAME", help="The source's name, and that of the file.")
@click.option("--memory-id", metavar="ID", help="The memory in AgentCore, by its id or ARN.")
@click.option("--region", metavar="REGION", help="The memory's AWS region.")
@click.option("--endpoint-url", metavar="URL", help="`local`: a memory on this machine; or that of a server.")
@click.option(
    "--set", "assignments", metavar="KEY=VALUE", multiple=True, help="Any setting: source.path=docs; repeatable."
)
@click.option("--yes", "is_yes", is_flag=True, help="Ask nothing; take what would be proposed.")
@click.option("--no-look", is_flag=True, help="Do not look at the source.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
def init_command(**answers: Any) -> None:
    """Look at a source, ask a few questions, write its YAML file.

    FOLDER_OR_URL is where the documents are: a folder, a database file, or an address such as https://...,
    s3://BUCKET/, postgresql://USER@HOST/DATABASE, imap://USER@HOST or git@HOST:PATH. The file holds what was found
    with a reason beside each value; nothing is sent, and no file is overwritten.

    Without a terminal, or with --yes, nothing is asked.
    """
    end_with(lambda: _init(Asked(**answers)))


def _init(asked: Asked) -> int:
    from pipeline.commands.questions import Questions

    questions = Questions(style_here(), is_to_be_asked=not asked.is_yes)
    if not questions.are_asked and not asked.is_yes:
        _refuse_unanswered(asked)
    try:
        file, look = _set_up(asked, questions, style_here())
    except (click.Abort, KeyboardInterrupt):  # click's is that at a question
        click.echo("\nmemsync: stopped; nothing was written.", err=True)
        raise KeyboardInterrupt from None
    return _check_and_plan(file, look, style_here())


def _refuse_unanswered(asked: Asked) -> None:
    """Before a look takes its time: what would be asked, and is not to be taken as proposed without a word."""
    missing = []
    if asked.where is None and asked.type_name is None:
        missing.append("FOLDER_OR_URL")
    if asked.name is None:
        missing.append("--name NAME")
    if asked.memory_id is None and asked.endpoint_url is None:
        missing.append("--memory-id ID (or --endpoint-url local)")
    if missing:
        raise click.UsageError(
            f"There is no terminal to ask on: give {', '.join(missing)}; or --yes, which takes what would be proposed,"
            " with a memory on this machine."
        )


def _set_up(asked: Asked, questions: "Questions", style: "Style") -> "tuple[str, Look | None]":
    """Write the file; return its path as it can be typed from here, and what a look at the source has shown."""
    from pipeline.starting.draft import with_settings
    from pipeline.starting.yaml_text import yaml_text

    were_set = frozenset(os.environ)
    if asked.out is not None:
        _refuse_to_overwrite(asked.out)
    given = _assignments(asked)
    draft, place = source_draft(asked, questions, given)
    look = None
    if not asked.no_look:
        note(f"{place.words} (type: {place.type}); looks at it, for up to half a minute")
        draft, look = _looked_at(draft, asked, questions, given, style)
    name, file = _name_and_file(asked, questions, place.name)
    draft = with_settings(_completed(draft, name, file, look), given)
    draft = with_settings(
        draft, [*_destination(asked, questions, name), *(each for each in given if each.path[0] == "destination")]
    )
    text = yaml_text(draft)
    settings = _checked(text, file)
    _write(file, text)
    schema = _put_schema_beside(file)
    shown = min(str(file), os.path.relpath(file), key=len)
    beside = f", and {schema} beside it, for editors" if schema else ""
    click.echo(f"{style.sign('good')} wrote {style.text(shown)}{beside}")
    _say_what_to_set(settings, were_set, style)
    return shown, look


def _assignments(asked: Asked) -> "list[Setting]":
    from pipeline.starting.draft import Setting
    from pipeline.starting.fields import read_assignment

    try:
        return [Setting(*read_assignment(text)) for text in asked.assignments]
    except ValueError as error:
        raise click.UsageError(f"--set: {error}") from None


# ------------------------------------------------------------------------------------------------ the look


def _looked_at(
    draft: "Draft", asked: Asked, questions: "Questions", given: "Sequence[Setting]", style: "Style"
) -> "tuple[Draft, Look | None]":
    """`draft` with what a look at the source proposes; None if it could not be looked at, and that is all right."""
    from pipeline.reporting.looks import render_look
    from pipeline.starting.draft import value_at, with_settings
    from pipeline.starting.look import look_at
    from pipeline.starting.proposals import (
        choice_of,
        content_settings,
        documents_only,
        endings_to_leave_out,
        folders_to_leave_out,
        takes_patterns,
    )

    said = {setting.path for setting in given}
    try:
        look = wait_for(partial(look_at, _trial(draft, given, asked)))
        type_name = value_at(draft, "source", "type")
        if (
            takes_patterns(type_name)
            and ("source", "exclude") not in said
            and (folders := folders_to_leave_out(look)) is not None
        ):
            note(f"leaves out {' '.join(folders.value)} ({folders.why}) and looks at the rest")
            draft = with_settings(draft, [folders])
            look = wait_for(partial(look_at, _trial(draft, given, asked)))
    except SourceError as error:
        if not questions.are_asked:
            raise SourceError(f"{error} No file was written; --no-look writes it without a look.") from error
        note(str(error))
        if not questions.agreed("Write the file all the same?", default=False):
            raise click.Abort from None
        return draft, None
    click.echo(render_look(look, style=style))
    if takes_patterns(type_name) and ("source", "include") not in said:
        choice = choice_of(look)
        if choice is not None and _takes_documents_only(choice, questions):
            draft = with_settings(draft, [documents_only(choice)])
        elif ("source", "exclude") not in said and (endings := endings_to_leave_out(draft, look)) is not None:
            draft = with_settings(draft, [endings])
    return with_settings(draft, [each for each in content_settings(draft, look) if each.path not in said]), look


def _takes_documents_only(choice: Any, questions: "Questions") -> bool:
    documents, others = (
        (sum(kind.documents for kind in kinds), " ".join(kind.ending or "(no ending)" for kind in kinds[:6]))
        for kinds in (choice.documents, choice.others)
    )
    answers = [
        ("documents", f"documents only: {documents[0]:,} ({documents[1]})"),
        ("everything", f"source code and data as well: {others[0]:,} more ({others[1]})"),
    ]
    default = "documents" if choice.suggests_documents else "everything"
    return questions.choice("What is taken", "--set source.include=PATTERNS", answers, default=default) == "documents"


def _trial(draft: "Draft", given: "Sequence[Setting]", asked: Asked) -> "SourceSettings":
    """The settings to look at the source with, and to check what was said so far; the memory is not asked."""
    from pipeline.starting.draft import Setting, with_settings
    from pipeline.starting.memories import in_aws, local_memory
    from pipeline.starting.yaml_text import yaml_text

    name = asked.name or "look"
    memory = in_aws(asked.memory_id, asked.region, asked.endpoint_url) if asked.memory_id else local_memory(name, None)
    trial = with_settings(draft, [Setting(("name",), name), *memory, *given])
    return _checked(yaml_text(trial), asked.base / "look.yaml")


def _checked(text: str, file: Path) -> "SourceSettings":
    """The settings that `text` holds.

    Raises:
        ConfigurationError: they are none; without a place, since there is no such file.
    """
    from pipeline.configuration.loading import source_from

    try:
        return source_from(text, file)
    except ConfigurationError as error:
        faults = "\n".join(_without_place(line, str(file)) for line in str(error).split("\n"))
        raise ConfigurationError(
            f"What was said makes no source: {faults}\nNothing was written. --set KEY=VALUE sets what is missing or"
            " wrong, such as --set source.path=docs."
        ) from error


def _without_place(line: str, file: str) -> str:
    if not line.startswith(f"{file}:"):
        return line
    rest = line.removeprefix(f"{file}:").lstrip("0123456789:")
    return rest.strip()


# ------------------------------------------------------------------------------------- name, memory and the rest


def _name_and_file(asked: Asked, questions: "Questions", proposed: str) -> tuple[str, Path]:
    """The source's name, and the file that it will be in."""

    def free(typed: str) -> str:
        from pipeline.starting.addresses import slug

        if slug(typed) != typed:
            raise ValueError("1 to 64 of `a-zA-Z0-9._-`, beginning with a letter or a digit")
        if asked.out is None and (file := _file_of(typed)).exists():
            raise ValueError(f"{file} is there already and stays as it is: take another name, or --out another file")
        return typed

    name = asked.name
    if name is not None:
        if asked.out is None:
            _refuse_to_overwrite(_file_of(name))
    else:
        default = proposed
        if questions.are_asked and asked.out is None:
            numbers = (f"{proposed}-{number}" for number in range(2, 1000))
            default = next((each for each in [proposed, *numbers] if not _file_of(each).exists()), proposed)
        name = questions.text("Its name, which must not change later", "--name", default=default, meaning=free)
    return name, (asked.out or _file_of(name))


def _file_of(name: str) -> Path:
    return Path(f"{name}.yaml")


def _refuse_to_overwrite(file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise ConfigurationError(
            f"{file} is there already, and was left as it is. Give --out another file or --name another name; or see"
            f" what that one does: memsync plan {file}"
        )


def _completed(draft: "Draft", name: str, file: Path, look: "Look | None") -> "Draft":
    from pipeline.starting.draft import Setting, with_settings
    from pipeline.starting.proposals import common_settings, own_files_left_out

    why = "its identity: under another name, all records are created anew"
    draft = with_settings((Setting(("name",), name, why), *draft), common_settings(draft, name, look))
    own = own_files_left_out(draft, file)
    return with_settings(draft, [own] if own else [])


def _destination(asked: Asked, questions: "Questions", name: str) -> "list[Setting]":
    """The memory: as the options say, or one that is chosen, or to begin with the local one."""
    from pipeline.starting.memories import (
        DEFAULT_REGION,
        in_aws,
        local_memory,
        read_memory_id,
        read_region,
        region_here,
        region_in,
    )

    endpoint_url = asked.endpoint_url
    memory_id = asked.memory_id
    region = asked.region or (region_in(memory_id) if memory_id else None) or region_here()
    if endpoint_url is not None and memory_id is None:
        if endpoint_url == "local":
            return local_memory(name, region)
        memory_id = questions.text("The memory's id", "--memory-id", meaning=read_memory_id)
    if memory_id is None:
        if not questions.are_asked:
            return local_memory(name, region)
        memory_id, region = _chosen_memory(questions, region)
        if memory_id is None:
            return local_memory(name, region)
    if region is None and endpoint_url is not None:
        region = DEFAULT_REGION  # which AWS clients want, and which says nothing to such a server
    elif region is None and questions.are_asked:
        region = questions.text("Its AWS region", "--region", default=DEFAULT_REGION, meaning=read_region)
    elif region is None:
        note("no region is written: each run takes that of AWS_REGION or of the profile; --region writes one")
    return in_aws(memory_id, region, endpoint_url)


def _chosen_memory(questions: "Questions", region: str | None) -> "tuple[str | None, str | None]":
    """The memory that is chosen of those that there are, and its region; None for the local one."""
    from pipeline.starting.memories import DEFAULT_REGION, known_memories, read_memory_id, read_region, region_in

    region = region or DEFAULT_REGION
    known = wait_for(partial(known_memories, region, MEMORIES_S))
    if known.problem:
        note(f"the memories in {region} cannot be listed: {known.problem}")
    answers = [
        ("local", "a memory on this machine, to begin with: no AWS account is needed"),
        *((memory.id, f"{memory.id}  ({region}, {memory.status})") for memory in known.memories),
        ("other", "one in AgentCore, by its id"),
    ]
    active = [memory.id for memory in known.memories if memory.status == "ACTIVE"]
    default = active[0] if len(active) == 1 else "local"
    chosen = questions.choice("Where do the records go", "--memory-id", answers, default=default)
    if chosen == "local":
        return None, region
    if chosen != "other":
        return chosen, region
    memory_id = questions.text(
        "The memory's id, such as handbook-a1B2c3D4e5, or its ARN", "--memory-id", meaning=read_memory_id
    )
    return memory_id, region_in(memory_id) or questions.text(
        "Its AWS region", "--region", default=region, meaning=read_region
    )


# ------------------------------------------------------------------------------------------------ the file


def _write(file: Path, text: str) -> None:
    """Write the file whole or not at all, and never over another one."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        try:
            os.link(draft, file)  # which fails if there is one, also if it came this moment
        finally:
            draft.unlink()
    except OSError as error:
        _refuse_to_overwrite(file)
        reason = "its folder is a file" if isinstance(error, FileExistsError) else error.strerror
        raise ConfigurationError(
            f"{file} cannot be written: {reason}. Nothing was done. --out names another file."
        ) from error


def _put_schema_beside(file: Path) -> str | None:
    """Write the schema that the file's first line names, for editors, unless there is one; return its name if so.

    The source does without, too: if the disk is full, none is left rather than a part of one.
    """
    from pipeline.commands.schema import schema_text
    from pipeline.starting.yaml_text import SCHEMA_FILE

    path = file.with_name(SCHEMA_FILE)
    try:
        schema = path.open("x", encoding="utf-8")
    except OSError:
        return None
    try:
        with schema:
            schema.write(schema_text())
    except OSError:
        path.unlink(missing_ok=True)
        return None
    return SCHEMA_FILE


def _say_what_to_set(settings: "SourceSettings", were_set: Collection[str], style: "Style") -> None:
    """Name the environment variables that the file names and that were not set."""
    from pipeline.starting.memories import variables_of

    for variable in variables_of(settings.source.model_dump()):
        if variable not in were_set:
            click.echo(f"{style.sign('warning')} set {style.text(variable)} before you run it: export {variable}=...")


def _check_and_plan(file: str, look: "Look | None", style: "Style") -> int:
    """Validate the file, and plan a run if the source can be read, and in good time; then say what comes next."""
    _other_command("validate", file)
    if look is None:
        click.echo(f"\nNext, see what a run would do: {style.command('plan', file)}")
        return 0
    is_fit = not _has_command("doctor") or _other_command("doctor", file) == 0
    if not look.is_complete:
        click.echo(
            f"\nNext, see what a run would do: {style.command('plan', file)}\n"
            "That reads every document, and takes its time: the source was not looked at to its end."
        )
        return 0
    code = _other_command("plan", file)
    following = "plan" if code else "run" if is_fit else "doctor"
    click.echo(f"\nNext: {style.command(following, file)}")
    return code


def _has_command(name: str) -> bool:
    context = click.get_current_context().find_root()
    return isinstance(context.command, click.Group) and name in context.command.list_commands(context)


def _other_command(name: str, *arguments: str) -> int:
    """What another command does with `arguments`, and its exit code."""
    root = click.get_current_context().find_root()
    assert isinstance(root.command, click.Group)
    found = root.command.get_command(root, name)
    assert found is not None
    assert found.callback is not None
    context = found.make_context(name, list(arguments), parent=root)
    with context:
        sys.stdout.flush()
        code: int = wait_for(partial(inspect.unwrap(found.callback), **context.params))
    return code
