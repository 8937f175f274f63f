"""Documents to measure with: always the same ones for the same numbers."""

import random
from pathlib import Path

_WORDS = [f"{start}{middle}{end}" for start in "bdklmnprst" for middle in ("a", "e", "io", "u") for end in "nrstxl"]
_SIGNS = "水火木金土日月山川田人口目耳手足力文字学校先生年中大小上下左右"
PER_FOLDER = 200


def write_corpus(folder: Path, count: int, *, seed: int = 1) -> int:
    """Write `count` Markdown files below `folder`; return their bytes.

    Sizes are spread as they are in real folders: a median of 2 kB, a mean of 3.2 kB, some of 50 kB. A tenth is Chinese.
    """
    rng = random.Random(seed)
    total = 0
    for number in range(count):
        file = folder / f"{number // PER_FOLDER:04}" / f"{number:06}.md"
        if number % PER_FOLDER == 0:
            file.parent.mkdir(parents=True, exist_ok=True)
        text = document(rng, number)
        total += file.write_bytes(text.encode())
    return total


def document(rng: random.Random, number: int) -> str:
    """A heading, and paragraphs under some more of them."""
    size = min(int(rng.lognormvariate(7.6, 0.95)), 50_000)
    is_chinese = number % 10 == 9
    parts = [f"# Document {number}\n"]
    length = 0
    while length < size:
        if rng.random() < 0.2:
            parts.append(f"## Part {len(parts)}\n")
        if is_chinese:
            paragraph = "".join(rng.choices(_SIGNS, k=rng.randrange(30, 150))) + "。\n"
            length += 3 * len(paragraph)
        else:
            words = rng.choices(_WORDS, k=rng.randrange(20, 120))
            paragraph = " ".join(words).capitalize() + ".\n"
            length += len(paragraph)
        parts.append(paragraph)
    return "\n".join(parts)
