"""The section `parsing:` of a source's configuration."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.parsing.decoding import is_usable
from pipeline.parsing.rules import CsvRules, LineRules, ParsingLimits, ParsingRules


class JsonLinesSettings(BaseModel):
    """Files that hold a JSON object a line, each of them a document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str | None = Field(
        default=None,
        description="The field that identifies a line, also after it has changed. Unset: id, _id, key or the like; "
        "else the line's digest.",
    )
    text: tuple[str, ...] = Field(
        default=(),
        description="The fields that make up the text, in this order, a blank line between them. Unset: text, "
        "content, body or the like; else every field that holds a string.",
    )
    title: str | None = Field(default=None, description="The field with the title. Unset: title, name or the like.")
    modified_at: str | None = Field(
        default=None,
        description="The field with the time of the last change: ISO 8601, or seconds or milliseconds since 1970. "
        "Unset: updated_at, modified_at or the like.",
    )
    metadata: tuple[str, ...] = Field(default=(), description="The fields that go with the records as metadata.")


class CsvSettings(BaseModel):
    """Tables in text files: the first row names the columns, each other row is a document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str | None = Field(
        default=None,
        description="The column that identifies a row, also after it has changed. Unset: id, key or the like; else "
        "the row's digest.",
    )
    text: tuple[str, ...] = Field(
        default=(),
        description="The columns that make up the text, in this order, a blank line between them. Unset: all "
        "columns, each on a line of its own behind its name.",
    )
    title: str | None = Field(default=None, description="The column with the title. Unset: title, name or the like.")
    modified_at: str | None = Field(
        default=None,
        description="The column with the time of the last change: ISO 8601, or seconds or milliseconds since 1970. "
        "Unset: updated_at, modified_at or the like.",
    )
    metadata: tuple[str, ...] = Field(default=(), description="The columns that go with the records as metadata.")
    delimiter: str | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="The character between two cells. Unset: a tab in .tsv files, else the most frequent of comma, "
        "semicolon, tab and bar in the first row.",
    )


class LimitSettings(BaseModel):
    """What one document may cost. What goes beyond is a dead letter; `memsync replay` tries it again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    document_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="The seconds that reading one document may take, or one file in an archive (all of them together "
        "ten times as much). For what is read by a process of its own: all but text, Markdown, JSON Lines and CSV.",
    )
    unpacked_bytes: int = Field(
        default=100 * 1024**2,
        ge=1024,
        le=250 * 1024**2,
        description="How many bytes may come out of an archive, of what is compressed, or of a mail's attachments.",
    )
    entries: int = Field(default=10_000, ge=1, le=1_000_000, description="How many files may be in one document.")
    depth: int = Field(
        default=4,
        ge=1,
        le=20,
        description="How often a file may be packed in a file. A mail in a .tar.gz is the third: .gz, .tar, .eml.",
    )


class ParsingSettings(BaseModel):
    """How the content of documents is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoding: str | None = Field(
        default=None,
        description="The encoding of all documents that do not begin with a byte order mark. Unset: UTF-8, or what "
        "the document declares or looks like.",
    )
    jsonl: JsonLinesSettings = Field(default=JsonLinesSettings(), description="How .jsonl and .ndjson files are read.")
    csv: CsvSettings = Field(default=CsvSettings(), description="How .csv and .tsv files are read.")

    xml: Literal["source", "text"] = Field(
        default="source",
        description="How XML is read: as it stands, or as text without its tags. One of: source, text.",
    )
    limits: LimitSettings = Field(default=LimitSettings(), description="What one document may cost.")

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str | None) -> str | None:
        if encoding is not None and not is_usable(encoding):
            raise ValueError("Python knows no encoding of this name that files are written in")
        return encoding

    def rules(self) -> ParsingRules:
        return ParsingRules(
            self.encoding,
            LineRules(**self.jsonl.model_dump()),
            CsvRules(**self.csv.model_dump()),
            self.xml == "text",
            ParsingLimits(**self.limits.model_dump()),
        )
