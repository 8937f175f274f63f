"""Files with a document a line: JSON Lines and CSV."""

import tracemalloc
from datetime import UTC, datetime

import pytest

from pipeline.errors import UnreadableDocument
from pipeline.model import Document, DocumentId, DocumentRef, ParsedDocument
from pipeline.parsing import Parser
from pipeline.parsing.settings import ParsingSettings


def parse(content: bytes | str, name: str, **settings: object) -> list[ParsedDocument]:
    content = content.encode() if isinstance(content, str) else content
    parser = Parser(ParsingSettings.model_validate(settings).rules())
    documents = list(parser.parse(Document(DocumentRef(DocumentId(name), name), content)))
    return [document for document in documents if isinstance(document, ParsedDocument)]


def ids(documents: list[ParsedDocument]) -> list[str]:
    return [document.id for document in documents]


def only(documents: list[ParsedDocument]) -> ParsedDocument:
    (document,) = documents
    return document


# --------------------------------------------------------------------------------------------- JSON Lines


def test_each_line_is_a_document_made_of_the_configured_fields() -> None:
    """Exports name their fields as they like."""
    line = (
        '{"sku": 17, "head": "Lamp", "body": "It\\nshines.", "more": ["a", "b"], "none": null, "at": 1700000000,'
        ' "author": "Ann", "tags": ["x", 2], "ok": true, "n": 3, "deep": {"b": 1}}\n'
    )

    document = only(
        parse(
            line,
            "a.jsonl",
            jsonl={
                "id": "sku",
                "text": ["head", "body", "more", "none", "absent"],
                "title": "head",
                "modified_at": "at",
                "metadata": ["author", "tags", "ok", "n", "deep", "absent"],
            },
        )
    )

    assert document == ParsedDocument(
        DocumentId("a.jsonl#17"),
        "Lamp\n\nIt\nshines.\n\na\nb",
        title="Lamp",
        modified_at=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        metadata={"author": "Ann", "tags": ("x", "2"), "ok": "true", "n": 3.0, "deep": '{"b": 1}'},
    )


def test_without_settings_the_usual_names_are_found() -> None:
    """Most exports have a text, an id and a title, and say so."""
    document = only(
        parse('{"_id": "x", "Title": "T", "content": "C", "body": "", "updatedAt": "2024-01-02"}', "a.ndjson")
    )

    assert document == ParsedDocument(
        DocumentId("a.ndjson#x"), "C", title="T", modified_at=datetime(2024, 1, 2, tzinfo=UTC)
    )


def test_without_any_usual_name_all_strings_are_the_text() -> None:
    """Nothing that can be read is left out."""
    assert only(parse('{"question": "Why?", "answer": "So.", "n": 1}', "a.jsonl")).text == "question: Why?\nanswer: So."


def test_a_line_without_an_id_is_named_by_its_digest() -> None:
    """Lines that move within the file stay the same documents."""
    forth = ids(parse('{"text": "a"}\n{"text": "b"}\n', "a.jsonl"))
    back = ids(parse('{"text": "b"}\r\n\r\n  {"text": "a"}', "a.jsonl"))

    assert forth == back[::-1]
    assert len(set(forth)) == 2


def test_repeated_ids_are_told_apart_in_their_order() -> None:
    """Two documents never share an id, not even with one that looks like a counter."""
    lines = "\n".join(f'{{"id": "{name}", "text": "t"}}' for name in ["a", "a", "a~2", "a", "b"])

    assert ids(parse(lines, "f.jsonl")) == ["f.jsonl#a", "f.jsonl#a~2", "f.jsonl#a~2~2", "f.jsonl#a~3", "f.jsonl#b"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"text": "a"', "broken_json"),
        ('{"text": "a",}', "broken_json"),
        ("[1]", "not_an_object"),
        ('"a"', "not_an_object"),
        ("9" * 5_000, "broken_json"),
        ("[" * 100_000, "too_deep"),
        ('{"a":' * 100_000, "too_deep"),
    ],
    ids=lambda text: text[:12],
)
def test_a_broken_line_refuses_the_whole_file_before_anything_is_yielded(line: str, code: str) -> None:
    """Half a file would look like the other half had been deleted. The message names the line, not its text."""
    content = f'{{"text": "fine"}}\n\n{line}\n'.encode()
    documents = Parser().parse(Document(DocumentRef(DocumentId("a.jsonl"), "a.jsonl"), content))

    with pytest.raises(UnreadableDocument, match="line 3") as raised:
        next(documents)

    assert raised.value.code == code


@pytest.mark.parametrize("line", ['{"text": "a"}', '{"key": null}', '{"key": " "}', '{"key": [1]}', '{"key": true}'])
def test_a_line_without_the_configured_id_refuses_the_file(line: str) -> None:
    """A digest instead would make another document of it with every edit."""
    with pytest.raises(UnreadableDocument, match=r"line 1 .*'key'"):
        parse(line, "a.jsonl", jsonl={"id": "key"})


def test_half_a_surrogate_pair_is_replaced() -> None:
    """JSON can hold it, and no encoding can."""
    document = only(parse('{"id": "\\ud83d", "text": "cut \\ud83d and whole \\ud83d\\ude00\\u0000"}', "a.jsonl"))

    assert document.id == "a.jsonl#\ufffd"
    assert document.text == "cut \ufffd and whole 😀"


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", "\n\n"), ("a.jsonl", ""), ("a.csv", "id,text\n"), ("a.csv", "")]
)
def test_a_file_without_lines_has_no_documents(name: str, content: str) -> None:
    """All that it had are gone."""
    assert parse(content, name) == []


def test_other_encodings_are_read_line_by_line_as_well() -> None:
    """Spreadsheets export UTF-16 with a mark."""
    assert only(parse('{"text": "Grüße"}'.encode("utf-16"), "a.jsonl")).text == "Grüße"
    assert only(parse("id\ttext\n1\tGrüße".encode("utf-16"), "a.tsv")).text == "id: 1\ntext: Grüße"


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_memory_stays_flat_over_a_large_file(name: str) -> None:
    """A file of a gigabyte must not become several in memory."""
    line = '{"id": %d, "text": "' + "x" * 2_000 + '"}\n' if name == "a.jsonl" else "%d," + "x" * 2_000 + "\n"
    head = b"" if name == "a.jsonl" else b"id,text\n"
    content = head + b"".join((line % number).encode() for number in range(5_000))
    document = Document(DocumentRef(DocumentId(name), name), content)

    tracemalloc.start()
    count = sum(1 for _ in Parser().parse(document))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 5_000
    assert peak_bytes < len(content) / 2


# ---------------------------------------------------------------------------------------------------- CSV


def test_each_row_is_a_document_of_named_lines() -> None:
    """A cell without the name of its column says little."""
    documents = parse('id,Name,Notes\r\n7,Lamp,"It ""shines"",\nbrightly"\r\n\r\n8,Chair,\r\n', "a.csv")

    assert documents == [
        ParsedDocument(DocumentId("a.csv#7"), 'id: 7\nName: Lamp\nNotes: It "shines",\nbrightly', title="Lamp"),
        ParsedDocument(DocumentId("a.csv#8"), "id: 8\nName: Chair", title="Chair"),
    ]


def test_the_configured_columns_are_used() -> None:
    """Not every column is worth remembering."""
    document = only(
        parse(
            "sku;head;body;at;by\n17;Lamp;It shines.;2024-01-02T03:04:05+02:00;Ann\n",
            "a.csv",
            csv={
                "id": "sku",
                "text": ["head", "body"],
                "title": "head",
                "modified_at": "at",
                "metadata": ["by"],
                "delimiter": ";",
            },
        )
    )

    assert document.id == "a.csv#17"
    assert document.text == "Lamp\n\nIt shines."
    assert document.title == "Lamp"
    assert document.modified_at == datetime(2024, 1, 2, 1, 4, 5, tzinfo=UTC)
    assert document.metadata == {"by": "Ann"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_in_the_first_row(delimiter: str) -> None:
    """Half of Europe's spreadsheets write semicolons."""
    content = delimiter.join(["id", '"a,b;c|d\te"', "text"]) + "\n" + delimiter.join(["1", "2", "3"]) + "\n"

    assert only(parse(content, "a.csv")).text.endswith("text: 3")


def test_rows_without_an_id_are_named_by_their_digest_and_repeated_ones_counted() -> None:
    """Twice the same row is two documents."""
    first, second, third = ids(parse("text,n\na,1\nb,2\na,1\n", "a.csv"))

    assert third == f"{first}~2"
    assert second != first


def test_ragged_rows_lose_nothing() -> None:
    """Tables made by hand have cells too many and too few."""
    documents = parse("id,,text\n1,x,y,z\n2\n", "a.csv")

    assert [document.text for document in documents] == ["id: 1\ncolumn 2: x\ntext: y\ncolumn 4: z", "id: 2"]


def test_columns_of_the_same_name_are_all_kept() -> None:
    """The first of them is the one that settings mean."""
    document = only(parse("id,note,note\n1,a,b\n", "a.csv", csv={"metadata": ["note"]}))

    assert document.text == "id: 1\nnote: a\nnote: b"
    assert document.metadata == {"note": "a"}


def test_a_configured_column_that_is_missing_refuses_the_file() -> None:
    """A renamed column must not empty the memory of its texts."""
    with pytest.raises(UnreadableDocument, match="no column 'body', 'key'"):
        parse("id,text\n1,a\n", "a.csv", csv={"id": "key", "text": ["body", "text"]})


def test_a_large_cell_is_read() -> None:
    """The library stops at 128 KiB unless it is told otherwise."""
    assert len(only(parse(f"id,text\n1,{'x' * 300_000}\n", "a.csv")).text) > 300_000
