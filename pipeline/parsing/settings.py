"""The section `parsing:` of a source's configuration."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.parsing.decoding import is_usable
from pipeline.parsing.rules import CsvRules, LineRules, ParsingRules


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

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str | None) -> str | None:
        if encoding is not None and not is_usable(encoding):
            raise ValueError("Python knows no encoding of this name that files are written in")
        return encoding

    def rules(self) -> ParsingRules:
        return ParsingRules(self.encoding, LineRules(**self.jsonl.model_dump()), CsvRules(**self.csv.model_dump()))
