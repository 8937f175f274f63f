"""Which documents a run changed: the first of each kind by name, all of them by number."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.events import DeadLettered, DeletesWithheld, DocumentsDecided, DocumentsRemoved, DocumentsRenamed
from pipeline.model import DocumentId, Operation, RecordKey
from pipeline.report import DocumentCounts

NAMED_MAX = 500  # documents of each kind
KEYS_PER_DOCUMENT_MAX = 20
KEYS_MAX = 2_000  # in all

Named = dict[DocumentId, dict[str, Any]]


class ChangedDocuments:
    """Remembers at most `NAMED_MAX` documents of each kind, so that a million of them take no more memory."""

    def __init__(self) -> None:
        self._added: Named = {}
        self._changed: Named = {}
        self._removed: Named = {}
        self._renamed: Named = {}
        self._failed: Named = {}
        self._withheld: Named = {}
        self._withheld_total = 0
        self._keys = 0

    def hear_decided(self, event: DocumentsDecided) -> None:
        if event.document is None:
            return
        if event.outcome == "added" and len(self._added) < NAMED_MAX:
            self._added[event.document] = {"created": event.created}
        elif event.outcome == "changed" and len(self._changed) < NAMED_MAX:
            self._changed[event.document] = {
                "created": event.created,
                "updated": event.updated,
                "deleted": event.obsolete,
                "keys": self._some_keys(event.planned),
            }

    def _some_keys(self, planned: Sequence[tuple[Operation, RecordKey]]) -> Mapping[str, list[RecordKey]]:
        keys: dict[str, list[RecordKey]] = {}
        for operation, key in planned[: min(KEYS_PER_DOCUMENT_MAX, KEYS_MAX - self._keys)]:
            keys.setdefault(operation.value, []).append(key)
            self._keys += 1
        return keys

    def hear_removed(self, event: DocumentsRemoved) -> None:
        for document in event.ids[: NAMED_MAX - len(self._removed)]:
            self._removed[document] = {}

    def hear_renamed(self, event: DocumentsRenamed) -> None:
        for before, now in event.names[: NAMED_MAX - len(self._renamed)]:
            self._renamed[now] = {"before": before}

    def hear_withheld(self, event: DeletesWithheld) -> None:
        self._withheld_total += event.removed
        for document in event.some[: NAMED_MAX - len(self._withheld)]:
            self._withheld[document] = {}

    def hear_dead_lettered(self, event: DeadLettered) -> None:
        """A document stands in one class: whatever it was counted as before, it has failed."""
        if event.stage == "scan":
            return  # what could not be listed is a part of the source, and no document
        self._added.pop(event.document_id, None)
        self._changed.pop(event.document_id, None)
        if event.document_id in self._failed:
            self._failed[event.document_id]["dead_letters"] += 1
        elif len(self._failed) < NAMED_MAX:
            self._failed[event.document_id] = {
                "stage": event.stage,
                "code": event.code,
                "message": event.message,
                "dead_letters": 1,
            }

    def as_json(self, counts: DocumentCounts) -> Mapping[str, Any]:
        """By kind, how many there are (`counts` tells) and the first of them."""
        kinds = {
            "failed": (counts.failed, self._failed),
            "added": (counts.added, self._added),
            "changed": (counts.changed, self._changed),
            "removed": (counts.removed, self._removed),
            "withheld": (self._withheld_total, self._withheld),
            "renamed": (counts.renamed, self._renamed),
        }
        return {
            kind: {"total": total, "first": [{"id": document, **what} for document, what in named.items()]}
            for kind, (total, named) in kinds.items()
        }
