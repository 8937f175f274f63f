"""Dead letters as JSON: what the file's lines and the ledger's rows hold."""

import json
from datetime import UTC, datetime
from typing import Any

from pipeline.identity import digest_of
from pipeline.model import ClientToken, DeadLetter, Delete, DocumentId, DocumentPlan, Operation, RecordKey

SCHEMA = "memsync/dead-letter/1"

# Faults of reading that another hour may not have: the machine was busy, or short of memory.
PASSING_PARSE_FAULTS = frozenset({"parser_crashed", "parser_too_slow"})

# The code of a letter that was dropped and is there again: the records that it let stay cannot be renewed, and lapse.
LAPSING = "lapsing"


def document_letter_id(source: str, document: DocumentId) -> str:
    """The id of a letter about a whole document; a later failure of the same document replaces it."""
    return digest_of("document", source, document)


def record_letter_id(key: RecordKey, digest: str) -> str:
    """The id of a letter about one version of one record; failing again replaces it."""
    return digest_of("record", key, digest)


def standing_letters(plan: DocumentPlan) -> set[str]:
    """The ids of letters that speak of the version that `plan` is of, also of those that a writer made meanwhile."""
    versions = (change.record for change in plan.changes if not isinstance(change, Delete))
    return {
        *plan.standing,
        *(letter.id for letter in plan.letters),
        *(record_letter_id(record.key, record.version) for record in versions),
    }


def to_json(letter: DeadLetter) -> bytes:
    """One line, without its end, holding all that is needed to understand the letter and to send it again."""
    line: dict[str, Any] = {
        "schema": SCHEMA,
        "id": letter.id,
        "source": letter.source,
        "document_id": letter.document_id,
        "operation": letter.operation.value if letter.operation else None,
        "record": json.loads(letter.record) if letter.record else None,
        "key": letter.key,
        "digest": letter.digest,
        "error": {"stage": letter.stage, "code": letter.code, "message": letter.message},
        "attempts": letter.attempts,
        "first_failed_at": _written(letter.first_failed_at),
        "last_failed_at": _written(letter.last_failed_at),
        "run_id": letter.run_id,
        "client_token": letter.client_token,
        "rounds": letter.rounds,
        "retryable": letter.is_retryable,
        "edited": letter.is_edited,
    }
    if letter.dropped_at is not None:
        line["dropped_at"] = _written(letter.dropped_at)
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace")


def from_json(line: bytes | str) -> DeadLetter:
    """Read what `to_json` wrote, also that of versions which knew fewer members.

    Raises:
        ValueError, KeyError, TypeError: it is no dead letter of a schema that this version knows.
    """
    read: dict[str, Any] = json.loads(line)
    if read["schema"] != SCHEMA:
        raise ValueError(f"schema {read['schema']!r} is not {SCHEMA!r}")
    record = read["record"]
    stage, code = read["error"]["stage"], read["error"]["code"]
    operation = Operation(read["operation"]) if read["operation"] else None
    dropped_at = read.get("dropped_at")
    return DeadLetter(
        id=read["id"],
        source=read["source"],
        document_id=DocumentId(read["document_id"]),
        stage=stage,
        code=code,
        message=read["error"]["message"],
        attempts=read["attempts"],
        first_failed_at=datetime.fromisoformat(read["first_failed_at"]).timestamp(),
        last_failed_at=datetime.fromisoformat(read["last_failed_at"]).timestamp(),
        run_id=read["run_id"],
        key=RecordKey(read["key"]) if read["key"] else None,
        digest=read["digest"],
        operation=operation,
        record=_compact(record) if record is not None else None,
        client_token=ClientToken(read["client_token"]) if read["client_token"] else None,
        rounds=read.get("rounds", 1),
        is_retryable=read.get("retryable", _was_retryable(stage, code, operation)),
        is_edited=read.get("edited", False),
        dropped_at=None if dropped_at is None else datetime.fromisoformat(dropped_at).timestamp(),
    )


def _was_retryable(stage: str, code: str, operation: Operation | None) -> bool:
    """What a letter would say if its version had known the member: the only memory there was is AgentCore."""
    if stage == "write":
        is_young = code == "404" and operation is Operation.UPDATE
        return is_young or (code.isdecimal() and (int(code) == 429 or int(code) >= 500))
    return stage == "parse" and code in PASSING_PARSE_FAULTS


def _compact(record: object) -> bytes:
    """`record` in the form in which destinations write it; a lone surrogate stays an escape."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
