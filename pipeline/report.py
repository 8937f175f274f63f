"""The account of a run: every document and every record in exactly one class."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["in_sync", "dead_letters", "guarded", "failed", "locked", "interrupted"]

EXIT_CODES: dict[Status, int] = {
    "in_sync": 0,
    "failed": 1,
    "dead_letters": 3,
    "guarded": 4,
    "locked": 5,
    "interrupted": 130,
}

# What the error of a replay begins with that did all it can, when what is told after it is of the last run.
REPLAY_WENT_THROUGH = "The replay went through, but the last run did not: "

# Of several sources, the one that needs a person soonest gives the run its status.
_BY_URGENCY: tuple[Status, ...] = ("interrupted", "failed", "guarded", "locked", "dead_letters", "in_sync")


@dataclass(slots=True)
class DocumentCounts:
    """seen = unchanged + added + changed + failed; what was skipped or removed is not among the seen, and what was
    renamed is there for what became of it. Of the seen, the renewed had records that would have lapsed."""

    seen: int = 0
    unchanged: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    renamed: int = 0
    renewed: int = 0
    failed: int = 0
    skipped: dict[str, int] = field(default_factory=dict)  # by reason


@dataclass(slots=True)
class RecordCounts:
    """created, updated and deleted were confirmed by the memory; pending ones wait in the outbox.

    dropped are dead letters that a person has given up for good; they are not among the dead_lettered.
    """

    created: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    pending: int = 0


@dataclass(slots=True)
class RequestCounts:
    """`throttled` and `retried` count attempts among the `sent` that had to be made again."""

    sent: int = 0
    throttled: int = 0
    retried: int = 0


@dataclass(slots=True)
class SourceReport:
    """Of the dead letters, `resent` is how many this run sent again, and `quarantined` are sent by no run any more.

    `next_attempt_at` is when the first of the others is due, in seconds since the epoch.
    """

    name: str
    status: Status = "in_sync"
    documents: DocumentCounts = field(default_factory=DocumentCounts)
    records: RecordCounts = field(default_factory=RecordCounts)
    requests: RequestCounts = field(default_factory=RequestCounts)
    seconds: float = 0.0
    error: str | None = None
    withheld_documents: int = 0  # removed documents whose deletion the guard, or a setting, held back
    dead_letters_by_code: dict[str, int] = field(default_factory=dict)
    dead_letters_path: str | None = None
    resent: int = 0
    quarantined: int = 0
    next_attempt_at: float | None = None


def overall_status(statuses: list[Status]) -> Status:
    """The status of a whole run; `in_sync` only if every source is."""
    return min(statuses, key=_BY_URGENCY.index, default="in_sync")


def run_report(run_id: str, sources: list[SourceReport]) -> dict[str, Any]:
    """The report of a run or a replay, as the JSON object that `--json` prints."""
    return {
        "schema": "memsync/run/1",
        "run_id": run_id,
        "status": overall_status([source.status for source in sources]),
        "sources": [asdict(source) for source in sources],
    }


def plan_report(run_id: str, sources: list[SourceReport]) -> dict[str, Any]:
    """The report of a plan: as that of a run, with the status `changes` where a run would find something to do."""
    plan = {**run_report(run_id, sources), "schema": "memsync/plan/1"}
    for source in plan["sources"]:
        records = source["records"]
        has_changes = any(records[kind] for kind in ("created", "updated", "deleted", "pending"))
        if source["status"] == "in_sync" and has_changes:
            source["status"] = "changes"
            plan["status"] = "changes" if plan["status"] == "in_sync" else plan["status"]
    return plan
