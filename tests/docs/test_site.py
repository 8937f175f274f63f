"""The documentation as a site, and that it quotes what the program really says."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` does: a broken link fails."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=PROJECT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


class Loaded(HTMLParser):
    """The addresses from which a page loads something by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") not in ("stylesheet", "icon", "preconnect", "preload"):
            return
        if tag in ("script", "img", "iframe", "source", "link"):
            self.addresses += [address for name in ("src", "href") if (address := values.get(name))]


def test_every_page_loads_nothing_from_elsewhere(site: Path) -> None:
    """It is read where there is no internet, and tells nobody that it is read."""
    pages = list(site.rglob("*.html"))
    addresses: list[str] = []
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        addresses += loaded.addresses

    assert len(pages) > 10
    assert addresses
    assert [address for address in addresses if re.match(r"(https?:)?//", address)] == []


def test_every_command_is_on_its_page(site: Path) -> None:
    """It is made from the program, so it names what there is."""
    page = (site / "commands.html").read_text(encoding="utf-8")

    for name in ("run", "dead-letters", "verify", "local"):
        assert f"Usage: memsync {name} " in page


def said_by_the_program() -> Iterator[str]:
    for package in ("pipeline", "connectors"):
        for file in sorted((PROJECT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)  # type: ignore[misc]
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_what_the_page_on_failures_quotes_is_what_the_program_says() -> None:
    """Who looks for the words that were printed must find them; and words that nothing prints mislead."""
    page = (PROJECT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    said = "\n".join(said_by_the_program())
    by_the_service = {"ValidationException"}

    assert len(quoted) > 20
    assert [words for words in quoted if words not in said and words not in by_the_service] == []
