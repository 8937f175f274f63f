"""Whatever a user, a service and an operating system do to memsync, in any order: what is stored stays right.

Hypothesis chooses what happens: documents change, commands run, fail and are killed, states are lost and put back,
records vanish. What it may choose next depends on its own choices alone: ids and times are others in each try. After
each step the memory is compared with the documents, and every answer with the facts. `make stateful EXAMPLES=200`
looks further than `make test` does.
"""

import json
import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from pipeline.local_memory import StoredRecord
from tests.acceptance.conftest import Completed, paragraph
from tests.state.schema_1 import CASES, LONG_NAME, MEMORY_ID
from tests.stateful.memory import open_memory
from tests.stateful.user import KILLED, User
from tests.stateful.zygote import POINT_NAMES, Zygote

EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
QUICK_EXAMPLES = 12
STEPS = 14

UNWANTED = "unwanted"  # what a memory refuses to store when it is told to
NAMES = ("a.md", "b.txt", "sub/c.md", "ä =.md", "rows.jsonl", LONG_NAME)
IN_SYNC, FAILED, DEAD_LETTERS, GUARDED = 0, 1, 3, 4

names = st.sampled_from(NAMES)
numbers = st.lists(st.integers(0, 8), min_size=1, max_size=4)
edits = st.dictionaries(names, st.none() | numbers, max_size=3)
some_edits = st.dictionaries(names, numbers, min_size=1, max_size=3)
# What was sent and not settled is where most can go wrong.
points = st.sampled_from(("past AgentCoreDestination.write", "at SqliteStateStore.settle")) | st.sampled_from(
    POINT_NAMES
)
kills = st.tuples(points, st.integers(1, 2))
mishaps = st.lists(
    st.sampled_from(
        ("none", "throttle", "error_before_write", "error_after_write", "drop_before_write", "drop_after_write",
         "omit_record", "access_denied")
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip


def text_of(name: str, chosen: list[int]) -> str:
    """The text of a file; equal numbers are equal paragraphs, and one of them is unwanted."""
    paragraphs = [f"{UNWANTED} {paragraph(7, 8)}" if number == 7 else paragraph(number, 8) for number in chosen]
    if not name.endswith(".jsonl"):
        return "\n\n".join(paragraphs) + "\n"
    rows = [{"id": f"row-{number}", "text": text} for number, text in zip(chosen, paragraphs, strict=True)]
    unique = {row["id"]: row for row in rows}
    return "".join(f"{json.dumps(row)}\n" for row in unique.values())


class Commands(RuleBasedStateMachine):
    """A user's days. `zygote` is there before the first."""

    zygote: Zygote

    def __init__(self) -> None:
        super().__init__()
        self._closing = ExitStack()
        folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="memsync-")))
        self.user = User(folder / "user", self._closing.enter_context(open_memory(MEMORY_ID)), self.zygote)
        self.backup = folder / "backup"

    def teardown(self) -> None:
        self._closing.close()

    @initialize(case=st.sampled_from((None, *CASES)), edits=edits, runs=st.booleans())
    def begin(self, case: str | None, edits: dict[str, list[int] | None], runs: bool) -> None:
        self.user.begin(case)
        self.change(edits)
        if runs:
            self.run(allow=False)

    # ---------------------------------------------------------------------------------------- what is done

    def change(self, edits: dict[str, list[int] | None]) -> None:
        """Write files of these paragraphs, and remove those that have none."""
        for name, chosen in edits.items():
            if chosen is not None:
                self.user.write(name, text_of(name, chosen))
            elif name in self.user.files:
                self.user.remove(name)

    @rule(edits=edits, allow=st.booleans())
    def change_and_run(self, edits: dict[str, list[int] | None], allow: bool) -> None:
        self.change(edits)
        self.run(allow=allow)

    @precondition(lambda self: self.user.files)
    @rule(data=st.data(), to=names)
    def rename_and_run(self, data: st.DataObject, to: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.user.files)))
        if name.endswith(".jsonl") == to.endswith(".jsonl"):
            text = self.user.files[name]
            self.user.remove(name)
            self.user.write(to, text)
        self.run(allow=False)

    @rule(allow=st.booleans())
    def empty_and_run(self, allow: bool) -> None:
        self.change(dict.fromkeys(self.user.files))
        self.run(allow=allow)

    def run(self, *, allow: bool) -> None:
        self.back_up()
        known = self.user.ledger().documents
        done = self.command("run", *(["--allow-mass-delete"] if allow else []))
        self.check_run(done, allow=allow)
        if not self.user.files and known and not allow and done.exit_code != FAILED:
            assert done.exit_code == GUARDED, "an empty folder is as likely a disk that is not there"

    @rule(edits=some_edits, script=mishaps)
    def run_with_faults(self, edits: dict[str, list[int] | None], script: list[str]) -> None:
        self.change(edits)
        self.user.memory.play(script=tuple(script))
        self.check_run(self.command("run"), may_fail=True)
        self.user.memory.play()

    @rule(edits=edits)
    def run_with_a_memory_that_rejects(self, edits: dict[str, list[int] | None]) -> None:
        self.change(edits)
        self.user.memory.play(reject_text=UNWANTED)
        self.check_run(self.command("run"))
        self.user.memory.play()

    @rule(
        edits=some_edits,
        command=st.sampled_from(["run", "run", "run", "replay", "verify --repair", "recover"]),
        kill=kills,
        runs=st.booleans(),
    )
    def be_killed(self, edits: dict[str, list[int] | None], command: str, kill: tuple[str, int], runs: bool) -> None:
        self.change(edits)
        self.command(*command.split(), kill=kill, may_change=command != "recover")
        if runs:
            self.run(allow=False)

    @rule(edits=edits)
    def plan_and_run(self, edits: dict[str, list[int] | None]) -> None:
        self.change(edits)
        before, files = self.user.ledger(), self.snapshot()
        has_been_moved = self.has_been_moved
        planned = self.command("plan", may_change=False)

        assert self.snapshot() == files, "a plan touches nothing"
        assert planned.exit_code == 0, planned.error

        done = self.command("run")
        self.check_run(done)
        is_foreseeable = not before.pending and not has_been_moved and self.is_ledger_right(before.record_ids)
        if is_foreseeable and done.exit_code in (IN_SYNC, DEAD_LETTERS):
            assert planned.documents == done.documents
            foreseen = {key: planned.records[key] for key in ("created", "updated", "unchanged")}
            assert foreseen == {key: done.records[key] for key in foreseen}

    @rule()
    def replay(self) -> None:
        done = self.command("replay")
        ledger = self.user.ledger()
        if done.exit_code in (IN_SYNC, DEAD_LETTERS):
            assert (done.exit_code == DEAD_LETTERS) == bool(ledger.letters)
            assert not ledger.pending

    @rule()
    def verify(self) -> None:
        ledger, files = self.user.ledger(), self.snapshot()
        done = self.command("verify", may_change=False)
        (source,) = done.report["sources"]

        assert self.snapshot() == files, "to look changes nothing"
        held = {record.record_id for record in self.user.ours()}
        if not ledger.pending:
            keys = {
                (record_id, key) for record_id, key in self.user.keys_held() if record_id not in ledger.unattributed
            }
            assert source["missing"] == len(ledger.keys - keys) + len(ledger.unattributed - held)
            surplus = source["foreign"] + source["duplicate"] + source["unattributed"]
            assert surplus == len(keys - ledger.keys) + len(held & ledger.unattributed)
            is_right = ledger.keys == keys and not source["changed"] and not ledger.unattributed
            assert done.exit_code == (IN_SYNC if is_right else FAILED)

    @rule()
    def repair(self) -> None:
        ledger = self.user.ledger()
        done = self.command("verify", "--repair")
        if done.exit_code == IN_SYNC:
            self.check_in_line(self.user.ledger())
        elif ledger.is_acquainted and self.user.files and not (self.user.ledger().letters or self.unattributed()):
            raise AssertionError(f"nothing stood in the way of a repair: {done.stdout} {done.stderr}")

    def back_up(self) -> None:
        """Keep a copy of the state, unless there is an older one, or the copy could not be told from the state.

        A state shows that by its mark, which the first run of this version leaves.
        """
        if not self.backup.exists() and self.user.ledger().has_mark:
            shutil.copytree(self.user.state, self.backup)

    has_been_moved = False  # since the last run that looked at it

    @rule(edits=edits, command=st.sampled_from(["nothing", "plan", "repair", "run", "run"]))
    def put_yesterdays_state_back(self, edits: dict[str, list[int] | None], command: str) -> None:
        if not self.backup.exists():
            return
        shutil.rmtree(self.user.state, ignore_errors=True)
        self.backup.rename(self.user.state)
        self.has_been_moved = True
        self.change(edits)
        match command:
            case "plan":
                self.plan_and_run({})
            case "repair":
                self.repair()
            case "run":
                self.run(allow=False)

    @rule(edits=edits, runs=st.booleans(), recovers=st.booleans())
    def lose_the_state(self, edits: dict[str, list[int] | None], runs: bool, recovers: bool) -> None:
        shutil.rmtree(self.user.state, ignore_errors=True)
        self.change(edits)
        if runs:
            self.run(allow=False)
        if recovers:
            self.recover()
            self.run(allow=False)

    def unattributed(self) -> set[str]:
        """Documents with records that the ledger does not know to be theirs."""
        return self.user.unattributable() if self.user.ledger().unattributed else set()

    @rule()
    def recover(self) -> None:
        ledger = self.user.ledger()
        is_there = ledger.is_acquainted and bool(ledger.record_ids or ledger.pending)
        done = self.command("recover", may_change=False)
        assert done.exit_code == (FAILED if is_there else IN_SYNC), done.stderr
        if not is_there:
            assert self.user.ledger().record_ids == {record.record_id for record in self.user.ours()}

    def a_record(self, number: int) -> list[StoredRecord]:
        """One of the records, if there are any; the same one whenever the same was done, whatever its id."""
        records = sorted(self.user.ours(), key=lambda record: (record.text, record.record_id))
        return records[number % len(records) :][:1] if records else []

    @rule(number=st.integers(0, 30))
    def delete_a_record_behind_its_back(self, number: int) -> None:
        self.user.memory.remove([record.record_id for record in self.a_record(number)])

    @rule(has_provenance=st.booleans())
    def add_a_strangers_record(self, has_provenance: bool) -> None:
        number = len(self.user.planted)
        metadata = {"memsync-source": {"stringValue": "other"}, "memsync-key": {"stringValue": "0" * 40}}
        stranger = StoredRecord(
            memory_id=MEMORY_ID,
            record_id=f"mem-{number:08}-0000-4000-8000-000000000000",
            namespace="/docs/docs/",
            text=f"A stranger's record {number}.",
            timestamp=1.0,
            strategy_id="",
            metadata=metadata if has_provenance else {},
            created_at=1_750_000_000.0,
            updated_at=1_750_000_000.0,
            expires_at=None,
        )
        self.user.planted[stranger.record_id] = stranger
        self.user.memory.put([stranger])

    @rule(number=st.integers(0, 30))
    def add_a_second_copy(self, number: int) -> None:
        for of in self.a_record(number):
            record_id = f"mem-{len(self.user.copies):08}-1111-4000-8000-000000000000"
            self.user.copies.add(record_id)
            self.user.memory.put([replace(of, record_id=record_id)])

    # -------------------------------------------------------------------------------------- what must hold

    def command(self, *arguments: str, kill: tuple[str, int] | None = None, may_change: bool = True) -> Completed:
        """Run a command, and compare the memory before and after it."""
        wanted, held, records = self.user.wanted(), self.user.held(), self.user.ours()
        before = self.user.ledger()
        # One that has records was being rebuilt when something came in between: that is done first, and then it writes.
        # So does one that was put back, since it shows that it is a copy.
        is_lost = not before.is_acquainted and not before.record_ids and not self.has_been_moved

        done = self.user.memsync(*arguments, kill=kill)

        if not may_change:
            assert self.user.ours() == records
        now = self.user.held()
        # What an earlier run may have sent already is sent first, and what it undoes is mended behind that.
        undone = before.in_outbox if done.exit_code in (KILLED, FAILED) else ()
        strangers = [record for record in self.user.memory.records() if record.record_id in self.user.planted]
        assert strangers == list(self.user.planted.values())
        assert not self.user.keys_held_twice()
        for document in wanted.keys() & held.keys():
            assert document in now, "a document that the source has is never absent"
            was_right, is_right = held[document] == wanted[document], now[document] == wanted[document]
            assert is_right or not was_right or document in undone, "what was right stays"
        if is_lost and records:
            assert self.user.ours() == records or arguments[0] == "verify", "a ledger that was lost writes nothing"
        if done.exit_code != KILLED and arguments[0] != "plan":
            self.has_been_moved = False
        return done

    def snapshot(self) -> dict[str, bytes]:
        """All that the user has, but for what SQLite's readers share with each other."""
        return {
            str(file.relative_to(self.user.folder)): file.read_bytes()
            for file in self.user.folder.rglob("*")
            if file.is_file() and not file.name.endswith("-shm")
        }

    def check_run(self, done: Completed, *, may_fail: bool = False, allow: bool = False) -> None:
        """Hold the account that a run gives of itself to the facts."""
        ledger = self.user.ledger()
        held = {record.record_id for record in self.user.ours()}
        assert done.records["pending"] == 0 or ledger.pending
        assert (done.records["dead_lettered"] > 0) == bool(ledger.letters)
        match done.exit_code:
            case 0 | 3:
                assert (done.exit_code == DEAD_LETTERS) == bool(ledger.letters)
                assert not ledger.pending
                self.check_in_line(ledger)
            case 4:
                assert done.source["withheld_documents"] > 0
                assert not self.user.files
                assert not allow
            case 1:
                assert done.error
                is_lost = not ledger.is_acquainted
                is_emptied = bool(ledger.record_ids - held)
                assert may_fail or is_lost or is_emptied, done.error
            case _:
                raise AssertionError(f"exit code {done.exit_code}: {done.stderr}")

    def is_ledger_right(self, record_ids: frozenset[str]) -> bool:
        return record_ids == {record.record_id for record in self.user.ours()}

    def check_in_line(self, ledger: Any) -> None:
        """The memory holds what the documents say, but for those with a dead letter.

        Where somebody else changed the memory, a run need not notice; nor where a new ledger has nothing to write. A
        record that does not say whose it is stays where no document claims it.
        """
        if ledger.is_acquainted and self.is_ledger_right(ledger.record_ids):
            wanted, held, unclaimed = self.user.wanted(), self.user.held(), self.unattributed()
            assert held.keys() <= wanted.keys() | ledger.letters | unclaimed
            for document in wanted.keys() - ledger.letters - unclaimed:
                assert held.get(document) == wanted[document], document


@pytest.mark.timeout(24 * 3600 if EXAMPLES else 300)
def test_whatever_happens_what_is_stored_stays_right(zygote: Zygote) -> None:
    """Each part is tested by itself; users meet them in an order that nobody thought of."""
    Commands.zygote = zygote
    profile = settings(
        max_examples=EXAMPLES or QUICK_EXAMPLES,
        stateful_step_count=3 * STEPS if EXAMPLES else STEPS,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        report_multiple_bugs=False,
        # A failure is made smaller where there is time for that.
        phases=[Phase.generate, *([Phase.shrink] if EXAMPLES else [])],
    )

    run_state_machine_as_test(Commands, settings=profile)
