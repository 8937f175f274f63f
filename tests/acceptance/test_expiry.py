"""Records with a time to live: told to the memory, renewed while their documents are there, and let go with them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from .conftest import Folder, Memory, Memsync

DAY_S = 86_400.0


def days_left(memory: Memory) -> list[int | None]:
    """Of each record, by its text, counted from its last writing."""
    return [
        None if record.expires_at is None else round((record.expires_at - record.updated_at) / DAY_S)
        for record in sorted(memory.records(), key=lambda record: record.text)
    ]


@contextmanager
def ledger(folder: Folder) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder.state / "state.sqlite3")) as connection, connection:
        yield connection


def let_days_pass(folder: Folder, days: float) -> None:
    """What the ledger says of every record is so much older."""
    with ledger(folder) as connection:
        connection.execute("UPDATE record SET renew_at = renew_at - ?, lapses_at = lapses_at - ?", (days * DAY_S,) * 2)


def test_records_lapse_after_the_days_that_are_set(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Set, changed and taken back: each costs one update of what differs, and keeps ids and texts."""
    docs.write_documents(3)
    docs.configure(memory.url, record={"expiry_days": 31})
    memsync("run", "docs.yaml")
    ids, days = memory.ids(), [days_left(memory)]
    reports = []
    for setting in (90, None):
        docs.configure(memory.url, record={"expiry_days": setting})
        reports += [memsync("run", "docs.yaml", "--json"), memsync("run", "docs.yaml", "--json")]
        days.append(days_left(memory))

    assert days == [[31] * 3, [90] * 3, [None] * 3]
    assert [report.touched() for report in reports] == [3, 0, 3, 0]
    assert memory.ids() == ids
    assert all(report.exit_code == 0 and report.documents["unchanged"] == 3 for report in reports)


def test_what_is_still_there_is_renewed_before_it_lapses(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The summary says why records were written although nothing has changed."""
    docs.write_documents(3)
    docs.configure(memory.url, record={"expiry_days": 60})
    memsync("run", "docs.yaml")
    let_days_pass(docs, 41)

    plan = memsync("plan", "docs.yaml", "--diff", "--json")
    renewed = memsync("run", "docs.yaml", "--json")
    again = memsync("run", "docs.yaml", "--json")

    assert (plan.documents["renewed"], plan.records["updated"]) == (3, 3)
    assert "the text stays" in plan.stdout
    assert (renewed.exit_code, renewed.documents["renewed"], renewed.records["updated"]) == (0, 3, 3)
    assert "3 renewed before they lapse" in renewed.stdout
    assert (again.touched(), days_left(memory)) == (0, [60] * 3)


def test_what_has_lapsed_is_told_from_what_is_missing_and_created_anew(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """After a long pause the memory has forgotten; that is no emptied memory."""
    docs.write_documents(5)
    docs.configure(memory.url, record={"expiry_days": 60})
    memsync("run", "docs.yaml")
    texts = memory.texts()
    let_days_pass(docs, 61)
    memory.forget()

    verified = memsync("verify", "docs.yaml", "--json")
    repaired = memsync("verify", "docs.yaml", "--repair")

    (source,) = verified.report["sources"]
    assert (verified.exit_code, source["expired"], source["missing"]) == (1, 5, 0)
    assert repaired.exit_code == 0
    assert sorted(memory.texts()) == sorted(texts)
    assert days_left(memory) == [60] * 5


def test_days_that_the_service_does_not_take_are_refused_with_their_place(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Before anything is sent."""
    docs.configure(memory.url, record={"expiry_days": 30})

    done = memsync("validate", "docs.yaml")

    assert done.exit_code == 2
    assert "docs.yaml:" in done.stderr
    assert "expiry_days" in done.stderr
    assert "31" in done.stderr
