"""`memsync dead-letters edit`: send a record otherwise than its document says it."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from pipeline.commands.letter_options import find_letter
from pipeline.commands.running import run_and_report
from pipeline.commands.shared import (
    agreed,
    command,
    files_of,
    load,
    path_argument,
    safe,
    source_option,
)
from pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline.configuration.settings import SourceSettings
    from pipeline.limits import ServiceLimits
    from pipeline.model import DeadLetter, RecordContent

Fate = Literal["stored", "failed", "overtaken", "saved", "not sent"]

FATES: dict[Fate, str] = {
    "stored": "The record is stored as you edited it. It stays so until its document changes there.",
    "failed": "The memory refused it again. The dead letter holds your text now: edit it once more, or replay it.",
    "overtaken": "It was not sent: its document has another version by now, which went first.",
    "saved": "It waits in the outbox as you edited it: the next run sends it.",
    "not sent": "It was not sent: see above.",
}


@click.command("edit")
@path_argument
@click.argument("letter_id", metavar="ID")
@source_option
@click.option("--text-file", type=click.Path(path_type=Path, allow_dash=True), help="Take the new text from this file.")
@command
async def edit_command(path: Path, letter_id: str, names: tuple[str, ...], text_file: Path | None) -> int:
    """Edit the record of a dead letter, and send it.

    Opens its text and metadata in $VISUAL or $EDITOR, checks what comes back against the memory's limits, and sends it.
    The edit stands for what its document says now: later runs leave it alone, and a new version of the document
    replaces it. ID is the beginning of the letter's id, as it is listed.
    """
    from pipeline.limits import service_limits
    from pipeline.runs.parts import open_destination

    sources = load([path], names)
    settings, letter = await find_letter(sources, letter_id)
    if letter.record is None or letter.operation == "delete":
        raise ConfigurationError(
            f"dead letter {letter.id[:10]} has no record to edit: it is about {safe(letter.document_id)!r} at the stage"
            f" {letter.stage!r}. Mend that instead; `memsync dead-letters show` tells how."
        )
    async with open_destination(settings, is_dry=True) as memory:
        before = memory.content_of(letter.record)
    limits = service_limits()
    if text_file is not None:
        content = _from_file(text_file, before, limits)
    else:
        draft = settings.state_folder / f"edit-{letter.id[:10]}.md"
        content = _from_editor(draft, letter, before, limits)
    if content == before:
        click.echo("Nothing was changed, so nothing was sent.")
        return 0
    code = await run_and_report(
        "replay",
        [settings],
        chosen={settings.name: {letter.id}},
        edits={letter.id: content},
        to_repeat=_command(settings, letter, text_file),
    )
    fate = await _fate_of(settings, letter)
    click.echo(f"\n{FATES[fate]}")
    if text_file is None and fate == "not sent":
        click.echo(_kept(draft).strip())
    elif text_file is None:
        draft.unlink(missing_ok=True)
    return code


def _command(settings: "SourceSettings", letter: "DeadLetter", text_file: Path | None) -> tuple[str, ...]:
    """What to type to send this edit, where a replay would send the record as it was."""
    its_text = () if text_file is None else ("--text-file", str(text_file))
    return "dead-letters", "edit", files_of([settings])[settings.name], letter.id[:10], *its_text


async def _fate_of(settings: "SourceSettings", letter: "DeadLetter") -> Fate:
    """What has become of a letter whose edited record was to be sent."""
    from pipeline.runs.parts import open_source_state

    assert letter.key is not None
    async with open_source_state(settings, is_read_only=True) as state:
        letters = await state.letters([letter.document_id], with_dropped=True, with_records=False)
        _, records = await state.known([], records_of=[letter.document_id])
        held = (await state.records_at([(letter.document_id, letter.key)])).get(letter.key)
        saved = [entry.key for token in await state.outbox() for entry in (await state.batch(token)).entries]
    now = next((each for each in letters if each.id == letter.id), None)
    if letter.key in saved:
        return "saved"
    if now is not None:
        return "not sent" if now.rounds == letter.rounds else "failed"
    # The ledger says of an edited record what its document asks for, and apart from that what the memory holds.
    asked_for = {record.key: record.digest for record in records[letter.document_id]}.get(letter.key)
    is_edited = held is not None and asked_for == letter.digest and held.digest != letter.digest
    return "stored" if is_edited else "overtaken"


def _from_file(file: Path, before: "RecordContent", limits: "ServiceLimits") -> "RecordContent":
    """`before` with the text that `file` holds.

    Raises:
        ConfigurationError: it cannot be read or sent.
    """
    from pipeline.letter_edit import UnusableEdit, with_text

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        return with_text(text.removesuffix("\n"), before, limits)
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not in UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ConfigurationError(f"{safe(str(file))} cannot be read: {reason}. Nothing was sent.") from error
    except UnusableEdit as error:
        raise ConfigurationError(f"{error}. Nothing was sent.") from error


def _from_editor(
    draft: Path, letter: "DeadLetter", before: "RecordContent", limits: "ServiceLimits"
) -> "RecordContent":
    """What a person makes of `before`; it is kept in `draft` until it was sent.

    Raises:
        ConfigurationError: the editor failed, or what came back cannot be sent.
    """
    from pipeline.letter_edit import UnusableEdit, from_edit, to_edit

    original = to_edit(before, _notes(letter))
    if not draft.exists():
        _write_private(draft, original)
    while True:
        try:
            click.edit(filename=str(draft))
            edited = draft.read_text(encoding="utf-8")
            if edited == original:
                draft.unlink()
                return before
            return from_edit(edited, before, limits)
        except (click.ClickException, OSError, UnicodeDecodeError) as error:
            reason = error.message if isinstance(error, click.ClickException) else str(error)
            _remove_if_untouched(draft, original)
            raise ConfigurationError(f"the editor failed: {safe(reason)}. Nothing was sent.{_kept(draft)}") from error
        except UnusableEdit as error:
            click.echo(f"memsync: this cannot be sent: {safe(str(error))}", err=True)
            if not sys.stdin.isatty() or not agreed(
                "Edit it once more?", default=True, otherwise=f"nothing was sent.{_kept(draft)}"
            ):
                raise ConfigurationError(f"nothing was sent.{_kept(draft)}") from error


def _remove_if_untouched(draft: Path, original: str) -> None:
    with suppress(OSError):
        if draft.read_bytes() == original.encode("utf-8", "backslashreplace"):
            draft.unlink()


def _kept(draft: Path) -> str:
    return f" Your text is kept in {safe(str(draft))}; the same command opens it again." if draft.exists() else ""


def _notes(letter: "DeadLetter") -> list[str]:
    from pipeline.reporting.text import printable

    return [
        f"Dead letter {letter.id[:10]} of {printable(letter.source)}: {printable(letter.document_id)}",
        f"{letter.stage}, {printable(letter.code)}: {printable(letter.message, characters_max=300)}",
        "Metadata stands above the next line of three dashes, as YAML; the text below it, to the end.",
        "What you save is sent in place of what the document says now. Leave it as it is to send nothing.",
    ]


def _write_private(file: Path, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as opened:
        opened.write(text)
