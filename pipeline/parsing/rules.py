"""How the content of documents is read, as plain values: the processes that read documents import nothing else."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LineRules:
    """Which fields of a line, or columns of a table, mean what; None and nothing: the usual ones."""

    id: str | None = None
    text: tuple[str, ...] = ()
    title: str | None = None
    modified_at: str | None = None
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CsvRules(LineRules):
    delimiter: str | None = None


@dataclass(frozen=True, slots=True)
class ParsingRules:
    """`encoding` is that of all documents without a byte order mark; None: to be found."""

    encoding: str | None = None
    jsonl: LineRules = LineRules()
    csv: CsvRules = CsvRules()
