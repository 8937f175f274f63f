"""`memsync explain`."""

from pathlib import Path

import click

from pipeline.commands.shared import command, json_option, paths_argument, print_json, style_here


@click.command("explain")
@paths_argument
@json_option
@click.option("--no-defaults", is_flag=True, help="Leave out what nobody has said.")
@command
async def explain_command(paths: tuple[Path, ...], as_json: bool, no_defaults: bool) -> int:
    """Show every setting that holds, and where it comes from.

    A line of the file or of one that it extends, an environment variable, or the default. A secret by reference is
    shown as the reference; nothing is looked up.
    """
    from dataclasses import asdict, replace

    from pipeline.configuration.explaining import explain
    from pipeline.configuration.faults import dotted
    from pipeline.configuration.loading import load_with_origins
    from pipeline.reporting.explanations import render_explanation

    sources = [explain(loaded) for loaded in load_with_origins(paths)]
    if no_defaults:
        sources = [
            replace(each, settings=[setting for setting in each.settings if setting.origin.kind != "default"])
            for each in sources
        ]
    if as_json:
        told = [
            {
                "name": source.name,
                "files": source.files,
                "settings": [
                    {
                        "setting": dotted(setting.location),
                        "value": setting.value,
                        "origin": asdict(setting.origin),
                        "references": setting.references,
                    }
                    for setting in source.settings
                ],
            }
            for source in sources
        ]
        print_json("memsync/explain/1", sources=told)
    else:
        click.echo("\n\n".join(render_explanation(source, style=style_here()) for source in sources))
    return 0
