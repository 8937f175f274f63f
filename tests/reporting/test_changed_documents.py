"""Which documents a report names."""

import json

from pipeline.events import DeadLettered, DeletesWithheld, DocumentsDecided, DocumentsRemoved, DocumentsRenamed
from pipeline.model import DocumentId, Operation, RecordKey
from pipeline.report import DocumentCounts
from pipeline.reporting.changed_documents import KEYS_MAX, KEYS_PER_DOCUMENT_MAX, NAMED_MAX, ChangedDocuments

NO_COUNTS = DocumentCounts()


def decided(name: str, outcome: str = "added", keys: int = 1) -> DocumentsDecided:
    planned = [(Operation.CREATE, RecordKey(f"{name}-{number}")) for number in range(keys)]
    return DocumentsDecided(outcome, 1, created=keys, document=DocumentId(name), planned=planned)  # type: ignore[arg-type]


def named(documents: ChangedDocuments, kind: str) -> list[str]:
    return [document["id"] for document in documents.as_json(NO_COUNTS)[kind]["first"]]


def test_a_million_documents_take_no_more_room_than_a_few_hundred() -> None:
    """A first run of a large source must not grow with it; how many there were, the account tells."""
    documents = ChangedDocuments()

    for number in range(1_000_000 // 500):
        documents.hear_decided(decided(f"{number}.md"))
        documents.hear_decided(decided(f"{number}.md", "changed", keys=KEYS_PER_DOCUMENT_MAX + 5))
        ids = [DocumentId(f"{number}-{each}.md") for each in range(500)]
        documents.hear_removed(DocumentsRemoved(500, 500, ids))
        documents.hear_renamed(DocumentsRenamed(500, [(each, DocumentId(f"new-{each}")) for each in ids]))
        documents.hear_withheld(DeletesWithheld("guard", 500, 1_000, ids))
        documents.hear_dead_lettered(DeadLettered(DocumentId(f"f{number}.md"), "parse", "broken", "It is broken."))

    told = documents.as_json(DocumentCounts(added=1_000_000))
    assert told["added"]["total"] == 1_000_000
    assert {kind: len(some["first"]) for kind, some in told.items()} == dict.fromkeys(told, NAMED_MAX)
    keys = [key for some in told.values() for each in some["first"] for key in each.get("keys", {}).get("create", [])]
    assert len(keys) == KEYS_MAX
    assert len(told["changed"]["first"][0]["keys"]["create"]) == KEYS_PER_DOCUMENT_MAX
    assert len(json.dumps(told)) < 1_000_000


def test_a_document_that_fails_later_stands_among_the_failed_only() -> None:
    """It was planned, counted as added, and then the memory refused a record: two places would tell two stories."""
    documents = ChangedDocuments()
    documents.hear_decided(decided("a.md"))
    documents.hear_decided(decided("b.md"))

    for _ in range(2):
        documents.hear_dead_lettered(DeadLettered(DocumentId("a.md"), "write", "Validation", "No.", "added"))

    assert named(documents, "added") == ["b.md"]
    (failed,) = documents.as_json(NO_COUNTS)["failed"]["first"]
    assert failed == {"id": "a.md", "stage": "write", "code": "Validation", "message": "No.", "dead_letters": 2}


def test_what_is_as_it_was_is_not_named_nor_is_a_part_of_the_source_that_could_not_be_listed() -> None:
    """Nearly all documents of most runs are unchanged, and a folder is no document."""
    documents = ChangedDocuments()

    documents.hear_decided(decided("a.md", "unchanged"))
    documents.hear_decided(DocumentsDecided("added", 1))
    documents.hear_dead_lettered(DeadLettered(DocumentId("folder/"), "scan", "PermissionError", "No."))

    assert all(some["first"] == [] for some in documents.as_json(NO_COUNTS).values())
