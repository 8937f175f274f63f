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
class ParsingLimits:
    """What one document may cost. The numbers below one line hold for all that is packed in it, together."""

    document_s: float = 30.0
    unpacked_bytes: int = 100 * 1024**2
    entries: int = 10_000
    depth: int = 4


@dataclass(frozen=True, slots=True)
class ParsingRules:
    """`encoding` is that of all documents without a byte order mark; None: to be found. XML is left as it stands unless
    it is to be read `xml_as_text`.
    """

    encoding: str | None = None
    jsonl: LineRules = LineRules()
    csv: CsvRules = CsvRules()
    xml_as_text: bool = False
    limits: ParsingLimits = ParsingLimits()
