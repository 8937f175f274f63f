"""`memsync search`."""

from dataclasses import asdict
from pathlib import Path

import click

from pipeline.commands.shared import command, json_option, load, path_argument, print_json, style_here


@click.command("search")
@path_argument
@click.argument("query")
@json_option
@click.option(
    "--count",
    metavar="COUNT",
    default=5,
    show_default=True,
    type=click.IntRange(1, 100),
    help="How many records to show.",
)
@command
async def search_command(path: Path, query: str, as_json: bool, count: int) -> int:
    """Ask the memory, as an agent would."""
    if not query.strip():
        raise click.UsageError("QUERY is empty: there is nothing to search for.")
    from pipeline.reporting.listings import render_search
    from pipeline.runs.upkeep import search_source

    hits = [hit for settings in load([path], ()) for hit in await search_source(settings, query, count)]
    hits = sorted(hits, key=lambda hit: -hit.score)[:count]
    if as_json:
        print_json("memsync/search/1", query=query, hits=[asdict(hit) for hit in hits])
    else:
        click.echo(render_search(hits, query=query, style=style_here()))
    return 0
