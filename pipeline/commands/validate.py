"""`memsync validate`."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from pipeline.commands.shared import EXIT_CONFIGURATION, command, json_option, paths_argument, print_json, safe, typed


@click.command("validate")
@paths_argument
@json_option
@click.option("--strict", is_flag=True, help="Count what this machine lacks to run it as a fault, too.")
@command
async def validate_command(paths: tuple[Path, ...], as_json: bool, strict: bool) -> int:
    """Check the configuration.

    Faults are told by file:line:column, all of them at once, and what this machine lacks to run the sources as
    warnings: variables that are not set, files with secrets, packages. Asks nobody, and looks up no secret elsewhere.
    """
    from pipeline.configuration.checking import check
    from pipeline.reporting.findings import render_findings, render_verdict
    from pipeline.reporting.text import Style

    sources, findings = check(paths)
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    is_refused = bool(errors or (strict and warnings))
    stream = sys.stderr if is_refused else sys.stdout
    if findings and (is_refused or not as_json):
        click.echo(render_findings(findings, style=Style.of(stream)), file=stream)
    if as_json:
        told = [{"name": each.name, "file": str(each.file)} for each in sources]
        print_json(
            "memsync/validate/1", valid=not errors, sources=told, findings=[asdict(finding) for finding in findings]
        )
    elif not is_refused:
        for settings in sources:
            click.echo(f"{safe(typed(settings.file))}: source {settings.name!r} is valid")
    if findings and (is_refused or not as_json):
        click.echo(render_verdict(errors, warnings, len(sources), style=Style.of(stream)), file=stream)
    return EXIT_CONFIGURATION if is_refused else 0
