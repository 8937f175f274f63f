"""`memsync preview`."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from pipeline.commands.shared import (
    command,
    completed_by,
    json_option,
    load,
    path_argument,
    print_json,
    source_option,
    style_here,
)

PREVIEWED_MAX = 5  # documents in one file


@click.command("preview")
@path_argument
@click.argument("document", required=False, shell_complete=completed_by("dead_documents"))
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
    from pipeline.reporting.previews import render_preview
    from pipeline.runs.preview import preview_document

    sources = load([path], names)
    if len(sources) > 1:
        known = ", ".join(settings.name for settings in sources)
        raise click.UsageError(f"PATH describes several sources; --source chooses one of {known}.")
    preview = await preview_document(sources[0], document, parts_max=sys.maxsize - 1 if is_full else PREVIEWED_MAX)
    if as_json:
        print_json("memsync/preview/1", document=asdict(preview))
    else:
        click.echo(render_preview(preview, is_full=is_full, style=style_here()))
    return 0
