"""What the site has beside the pages in this folder: the README, the changelog, and what is read out of the program.

The pages are written to be read in the repository. So links between them and to files beside them hold there, and are
led to the right place here.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from pipeline.cli import main

PROJECT = Path(__file__).parents[1]
MOVED = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
SHOWN_AS_TEXT = (
    "configs/*.yaml",
    "docs/connector-example/**/*",
    "CONTRIBUTING.md",
    "Containerfile",
    "pipeline/sync.py",
)

_LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and the files that pages lead to."""
    for name, content in (
        *((shown_as, (PROJECT / path).read_text(encoding="utf-8")) for path, shown_as in MOVED.items()),
        ("commands.md", "".join(_commands())),
    ):
        files.append(File.generated(config, name, content=content))
    for path in _files_to_show():
        files.append(File.generated(config, _name_of(path), content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of the page to where on the site that is which they name in the repository."""
    name = page.file.src_uri
    source = PROJECT / next((path for path, shown_as in MOVED.items() if shown_as == name), f"docs/{name}")
    return _LINK.sub(lambda found: _target(source, found[1]), markdown)


def _target(page: Path, link: str) -> str:
    path = (page.parent / link).resolve()
    if path in _files_to_show():
        return _name_of(path)
    if path.is_relative_to(PROJECT / "docs"):
        return path.relative_to(PROJECT / "docs").as_posix()
    return MOVED.get(path.relative_to(PROJECT).as_posix(), link)


def _files_to_show() -> list[Path]:
    return [path for pattern in SHOWN_AS_TEXT for path in sorted(PROJECT.glob(pattern)) if path.is_file()]


def _name_of(path: Path) -> str:
    """Where the site has a file of the repository: as text, whatever it is."""
    return f"files/{path.relative_to(PROJECT).as_posix()}.txt"


# ------------------------------------------------------------------------------------------- out of the program


def _commands() -> Iterator[str]:
    yield "# Commands\n\n"
    yield "What `memsync --help` and `memsync COMMAND --help` say.\n"
    context = click.Context(main, info_name="memsync", terminal_width=84)
    yield f"\n```text\n{main.get_help(context)}\n```\n"
    yield from _help_of(main, context)


def _help_of(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        its_context = click.Context(command, info_name=name, parent=context, terminal_width=84)
        yield f"\n## {its_context.command_path}\n\n```text\n{command.get_help(its_context)}\n```\n"
        if isinstance(command, click.Group):
            yield from _help_of(command, its_context)
