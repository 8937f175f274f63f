"""Judges a history by what the source held and what the memory was asked to do. Knows nothing of the pipeline."""

from collections import Counter
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from tests.simulation.service import LATE_WRITE_MAX_S, LIST_LAG_MAX_S, READ_TIMEOUT_S, Json, Service, Stored
from tests.simulation.source import RecordName, Source
from tests.simulation.world import Process, World

# 400 and a refused batch speak of the record, the others of a service that would not take it however often asked.
REASONS_TO_GIVE_UP = ("400", "ValidationException", "404", "429", "500", "unknown")


class Checker:
    """Watches every write. `settled_at` is when the memory was last known to hold all that was wanted then.

    What is deleted or overwritten must have been unwanted at some time since then: a run that is interrupted leaves
    plans behind which the next one carries out.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.source: Source
        self.service: Service
        self.settled_at = 0.0
        self.tampered: dict[str, float] = {}  # documents that others have changed in the memory, and when
        self.doubled: set[str] = set()  # documents that were written twice with an excuse; the end must be right
        self.state_lost_at = float("-inf")
        self.repaired_until = float("-inf")
        self.processes: list[Process] = []
        self.overtaken: set[Process] = set()  # by a run that has begun since
        self.has_leftovers = False  # a run was cut off: the next one carries out what that had planned

    # ---------------------------------------------------------------------------------------- at each write

    def requested(self, process: Process) -> None:
        """A process sends a batch."""
        if process in self.overtaken:
            self.world.violate("sent after being overtaken", f"{process.name} wrote without its lease")

    def created(self, record: Stored) -> None:
        self._require_once(record)

    def updated(self, record: Stored, before: Json) -> None:
        self._require_once(record)
        old, new = name_of(before), name_of(record.content)
        if old != new:
            self._require_unwanted(old, record, "overwritten")
        newest, oldest = self.source.newest_version.get(new), self.source.oldest_version.get(old)
        if old != new and newest is not None and oldest is not None and newest < oldest:
            self.world.violate("stale overwrite", f"{_short(new)} replaced the newer {_short(old)}")

    def deleted(self, record: Stored) -> None:
        name = name_of(record.content)
        self._require_unwanted(name, record, "deleted")
        self._require_new_before_old(name[0])

    def _require_new_before_old(self, document: str) -> None:
        """What is to replace a deleted record is stored by now, if it has been known since the run began."""
        began_at = max((process.began_at for process in self.processes if not process.is_dead), default=0.0)
        if self.source.lied_at >= began_at or self.has_leftovers:
            return
        file = document.partition("#")[0]
        if self.source.changed_at.get(file, 0.0) >= began_at or document in self.tampered or document in self.doubled:
            return
        held = {name_of(other.content) for other in self.service.records.values()}
        for name in self.source.wanted() - held:
            if name[0] == document:
                self.world.violate("old deleted before new", f"{_short(name)} is not stored yet")

    def _require_once(self, record: Stored) -> None:
        copies = [other for other in self.service.records.values() if other.key == record.key and not other.is_foreign]
        document = name_of(record.content)[0]
        if len(copies) <= 1 or record.is_foreign or document in self.tampered:
            return
        first_s = [other.created_at - self.state_lost_at for other in copies if other is not record]
        if all(-LIST_LAG_MAX_S < age_s < LATE_WRITE_MAX_S + READ_TIMEOUT_S for age_s in first_s):
            # No listing showed the first copy when the ledger was lost. A later run has to notice.
            self.world.hits["excused: state lost while listings lagged"] += 1
            self.doubled.add(document)
        elif document not in self.doubled:
            ids = ", ".join(copy.id[-4:] for copy in copies)
            self.world.violate("duplicate", f"{_short(name_of(record.content))} is there {len(copies)} times: {ids}")

    def _require_unwanted(self, name: RecordName, record: Stored, what: str) -> None:
        if any(name_of(other.content) == name for other in self.service.records.values() if other is not record):
            return  # another copy stays
        since = self.source.held_since.get(name)
        if since is not None and since <= self.settled_at and name[0] not in self.tampered:
            self.world.violate(f"wrongly {what}", f"{_short(name)} was wanted all the time since {since:.0f}")

    # ----------------------------------------------------------------------------------- at the end of a run

    def ended(self, process: Process, code: str | None, letters: Iterable[Any]) -> None:
        """A process has ended; what it says of records that it gave up on must have a reason in the record."""
        if code == "LeaseLost" and not process.was_frozen:
            self.world.violate("overtaken while alive", process.name)
        for letter in letters:
            if letter.stage == "write" and letter.code not in REASONS_TO_GIVE_UP:
                self.world.violate("given up without reason", f"{letter.document_id}: {letter.code}")

    def reported(self, process: Process, report: dict[str, Any]) -> None:
        """What a run has said of itself when it ended."""
        counts = report["documents"]
        classes = counts["unchanged"] + counts["added"] + counts["changed"] + counts["failed"]
        if counts["seen"] != classes or min(n for n in counts.values() if isinstance(n, int)) < 0:
            self.world.violate("wrong counts", f"{counts}")
        if min(report["records"].values()) < 0:
            self.world.violate("wrong counts", f"{report['records']}")
        if report["status"] != "in_sync":
            return
        if report["records"]["pending"] or report["records"]["dead_lettered"]:
            self.world.violate("untruthful report", "in sync with records outstanding")
        self.tampered = {document: at for document, at in self.tampered.items() if at > self.repaired_until}
        if self.source.lied_at >= process.began_at:
            return
        self.service.forget_lapsed()
        held = Counter(name_of(record.content) for record in self.service.records.values() if not record.is_foreign)
        wrong = self._differences(held, steady_since=process.began_at)
        if wrong:
            self.world.violate("untruthful report", f"in sync, but {wrong[:3]}")
        self.settled_at = process.began_at

    def _differences(self, held: Counter[RecordName], steady_since: float) -> list[str]:
        """Where documents that did not change since then are not as they should be."""

        def is_steady(document: str) -> bool:
            name = document.partition("#")[0]
            return (
                self.source.changed_at.get(name, 0.0) < steady_since
                and document not in self.tampered
                and document not in self.doubled
            )

        wanted = self.source.wanted()
        return [
            f"{_short(name)} is there {held[name]} times"
            for name in sorted({*wanted, *held})
            if is_steady(name[0]) and held[name] != (name in wanted)
        ]

    def state_lost(self) -> None:
        """The ledger is gone; what no listing showed by then can be written again, or be left over for a run or two."""
        now = self.state_lost_at = self.world.now()
        young = [record for record in self.service.records.values() if record.created_at > now - LIST_LAG_MAX_S]
        self.doubled.update(name_of(record.content)[0] for record in young)

    def mended(self, process: Process) -> None:
        """A repair has ended: once a run is in sync, what others did before it is no excuse any more."""
        self.repaired_until = process.began_at - LIST_LAG_MAX_S

    def require_equal(self) -> None:
        """The memory holds what the source holds, each once, and nothing else of ours."""
        held = Counter(name_of(record.content) for record in self.service.records.values() if not record.is_foreign)
        wanted = self.source.wanted()
        for name in sorted({*wanted, *held}):
            if held[name] != (name in wanted):
                kind = "lost" if held[name] == 0 else "left over" if name not in wanted else "duplicate"
                self.world.violate(kind, f"{_short(name)} is there {held[name]} times at the end")


def name_of(content: Json) -> RecordName:
    """The document that a record says it is of, and its text."""
    written = content.get("metadata", {}).get("memsync-document", {}).get("stringValue", "")
    return unquote(str(written).replace("=", "%")), str(content["content"]["text"])


def _short(name: RecordName) -> str:
    return f"{name[0]} {name[1][:14]!r}"
