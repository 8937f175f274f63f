"""The pages that users read, cut into what can be tried: blocks, the commands in them, and words set as code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (PROJECT / "README.md", *PROJECT.glob("docs/*.md"))}

SHELL, YAML, JSON, PYTHON = "sh", "yaml", "json", "python"

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two lines of ``` on a page. `language` is empty where the page names none."""

    place: str
    language: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0].strip()

    @property
    def commands(self) -> list[str]:
        """The lines to type, without comments; a line that goes on behind a backslash is one."""
        lines = [re.sub(r"(^|\s+)#.*", "", line) for line in re.sub(r"\s*\\\n\s*", " ", self.text).splitlines()]
        return [line for line in lines if line]


def blocks_of(page: str, *languages: str) -> list[Block]:
    """The blocks of a page, in their order; all of them if no language is named."""
    text = PAGES[page]
    found = [
        Block(f"{page}:{text.count(chr(10), 0, match.start()) + 1}", match[1], match[2])
        for match in _FENCED.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def commands_of(page: str) -> list[str]:
    """All that a page tells to type, in its order."""
    return [command for block in blocks_of(page, SHELL) for command in block.commands]


def spans_of(page: str) -> Iterator[str]:
    """What is set as code within the text of a page, each once."""
    for span in dict.fromkeys(_SPAN.findall(_FENCED.sub("", PAGES[page]))):
        yield re.sub(r"\s+", " ", span.replace(r"\|", "|"))
