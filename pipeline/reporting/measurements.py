"""What `memsync doctor --probe` prints."""

from collections.abc import Sequence

from pipeline.reporting.text import PLAIN, Style


def render_measurements(
    rows: Sequence[tuple[str, str, str]], *, where: str, files: Sequence[str], style: Style = PLAIN
) -> str:
    """Return a table of what was asked, what came out and what a run makes of it, and where that is kept."""
    table = style.table(
        ("WHAT AWS DOES NOT DOCUMENT", "MEASURED", "A RUN"), [tuple(map(style.text, row)) for row in rows]
    )
    kept = [f"  {style.text(file)}" for file in files]
    return "\n".join(
        [style.text(where), "", *table, "", "Runs use that where the settings say nothing; kept in", *kept]
    )
