"""The settings of a source of rows."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from connectors.kit.one_or_more import OneOrMore
from connectors.kit.row_values import MediaType, NameOfColumn, NamesOfColumns
from pipeline.references import plain_part

# Where a URL can hold a secret: between user and host, and in a parameter of some driver.
_PASSWORD = re.compile(r"^[^:/]*://[^:/]*:[^@]+@")
_SECRET_PARAMETER = re.compile(r"\?.*(passw|passphrase|pwd|secret|token)\w*(=|%3D)[^&]", re.IGNORECASE)


class SqlSettings(BaseModel):
    """Which rows of which database are documents."""

    # What is refused may hold a password.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: Literal["sql"]
    url: str | None = Field(
        default=None,
        description=(
            "The database, as SQLAlchemy names it: `postgresql+psycopg://reader@db.example.com/wiki`, "
            "`mysql+pymysql://…`, `sqlite:///wiki.db` (relative to the folder of this file). Never with a password, "
            "but by reference: `//reader:${env:NAME}@`."
        ),
    )
    url_variable: str | None = Field(
        default=None,
        min_length=1,
        description="Instead of `url`: the name of the environment variable that holds it, then also with a password.",
    )
    password_variable: str | None = Field(
        default=None, min_length=1, description="The name of the environment variable that holds the password."
    )
    table: str | None = Field(
        default=None, min_length=1, description="The table or view whose rows are documents: `pages`, `wiki.pages`."
    )
    query: str | None = Field(
        default=None, description="Instead of `table`: a SELECT whose rows are documents. Its own order is ignored."
    )
    id: NamesOfColumns = Field(
        description=(
            "The column that identifies a row, or a list of them: unique, never NULL, and best a primary key or "
            "otherwise indexed. Its value is the document's id."
        )
    )
    text: NamesOfColumns | None = Field(
        default=None,
        description="The column with the text, or a list of them; null: all text columns of the table but those below.",
    )
    title: str | None = Field(default=None, min_length=1, description="The column with the title.")
    modified_at: str | None = Field(
        default=None,
        min_length=1,
        description="The column with the time of the last change; a time without a zone counts as UTC.",
    )
    version: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A column whose value changes with every change of the row: then a run reads only this of rows that are "
            "unchanged. null: the text itself is compared."
        ),
    )
    cursor: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A column that grows with every change of a row, such as the time of the last change: then a run lists the "
            "rows that have changed since the last one, and all rows once in `full_every_h`. null: all rows each time."
        ),
    )
    cursor_overlap: float = Field(
        default=3600,
        ge=0,
        le=1e9,
        description=(
            "Seconds, or for a cursor of numbers as many of these, that a run lists once more: longer than the longest "
            "transaction that writes rows, which show when it ends with the times of when it began."
        ),
    )
    full_every_h: float = Field(
        default=24,
        gt=0,
        le=8784,
        description=(
            "With `cursor`: hours after which all rows are listed again. Only that shows which rows are gone, and "
            "edits that left the cursor as it was."
        ),
    )
    metadata: Annotated[tuple[NameOfColumn, ...], OneOrMore] = Field(
        default=(),
        description=(
            "Columns whose values the document has as metadata: `{metadata.COLUMN}` in the templates of `record`. They "
            "are no part of the text."
        ),
    )
    media_type: MediaType = Field(
        default="plain", description="What the text is: plain, markdown or html. The latter two for one column only."
    )
    max_bytes: int = Field(
        default=50 * 1024 * 1024, gt=0, description="A row with more text than that becomes a dead letter."
    )
    page_rows: int = Field(default=1000, ge=1, le=1000, description="Rows in one question to the database.")
    timeout_s: float = Field(
        default=300,
        gt=0,
        le=86_400,
        description="A question that the database does not answer in so many seconds is given up, with the connection.",
    )

    # Of the model and not of the field, whose fault would be told with its value.
    @model_validator(mode="after")
    def _has_no_secret(self) -> "SqlSettings":
        if self.url is not None:
            written = plain_part(self.url)
            if _PASSWORD.match(written) or _SECRET_PARAMETER.search(written):
                raise ValueError(
                    "a password must not stand in `url`; put a reference there, such as ${env:NAME}, or the name of an "
                    "environment variable with the password into `password_variable`"
                )
            if not re.match(r"[A-Za-z][\w+]*://", self.url):
                raise ValueError("`url` should be a URL of SQLAlchemy such as postgresql+psycopg://USER@HOST/DATABASE")
        return self

    @model_validator(mode="after")
    def _is_unambiguous(self) -> "SqlSettings":
        if (self.url is None) == (self.url_variable is None):
            raise ValueError("one of `url` and `url_variable` should be given")
        if (self.table is None) == (self.query is None):
            raise ValueError("one of `table` and `query` should be given")
        if self.query is not None and not re.match(r"\s*(select|with|values|\()", self.query, re.IGNORECASE):
            raise ValueError("`query` should be a SELECT")
        if self.query is not None and self.text is None:
            raise ValueError("`text` should name columns of the query: which are text is known of a table only")
        for name, columns in (("id", self.id), ("text", self.text or ()), ("metadata", self.metadata)):
            if len(set(columns)) < len(columns):
                raise ValueError(f"`{name}` should name each column once")
        if self.media_type != "plain" and (self.text is None or len(self.text) > 1):
            raise ValueError(f"`media_type: {self.media_type}` needs a `text` of one column")
        return self
