"""One history from its seed: a world, its processes, its operator, and what the checker says in the end."""

import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import trio
from trio.testing import MockClock

from pipeline.auto_replay import AutoReplay
from pipeline.destinations.agentcore import AgentCoreConnection, AgentCoreDestination
from pipeline.errors import DestinationError, SourceLocked, SyncError, first_error
from pipeline.job import SourceJob
from pipeline.lease import hold_lease
from pipeline.limits import service_limits
from pipeline.mapping import RecordRules
from pipeline.memory_check import MemoryCheck
from pipeline.model import CALLS, ClientToken, DeadLetter
from pipeline.pacing import Pacer
from pipeline.parsing import Parser
from pipeline.planner import DeletePolicy
from pipeline.reporting.tally import Tally
from pipeline.runs.runner import Act, Stop, execute
from pipeline.state.sqlite import SqliteStateStore, open_state
from pipeline.sync import rebuild, repair
from tests.simulation.checker import Checker, name_of
from tests.simulation.service import READ_TIMEOUT_S, Service, opener
from tests.simulation.source import Source
from tests.simulation.world import Process, World, play

Verb = Literal["run", "replay", "repair", "recover", "edit", "drop", "plan", "apply"]
REFUSED = ("400", "ValidationException")  # codes of what the memory never wants

# What they are to the program.
_VERBS: dict[str, Literal["run", "plan", "replay"]] = {
    "run": "run", "replay": "replay", "edit": "replay", "plan": "plan", "apply": "run"
}  # fmt: skip

RULES = RecordRules(source="docs", recipe="r1", namespace="/docs/{folder}/", max_chars=100, heading_path=False)
REQUEST_S = READ_TIMEOUT_S + 5.0
RUN_S_MAX = 24 * 3600.0
SETTLE_S = 90.0
AUTO_REPLAY = AutoReplay(replays_max=3, backoff_s=60.0, backoff_max_s=600.0)


@dataclass
class LetterFile:
    """The dead-letter file: outlives processes, and is written by living ones only."""

    letters: list[DeadLetter] = field(default_factory=list)

    def of(self, process: Process) -> "OpenLetterFile":
        return OpenLetterFile(self, process)


@dataclass
class OpenLetterFile:
    file: LetterFile
    process: Process

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            self.process.passes("before letters")
            self.file.letters += letters
            self.process.passes("after letters")

    async def rewrite(self, letters: Sequence[DeadLetter]) -> None:
        self.process.require_life()
        self.file.letters = list(letters)


@dataclass
class SimulatedMark:
    """The mark beside the state; its time rises with each writing, and copies do not keep it."""

    history: "History"

    def seen(self) -> str | None:
        return self.history.marked_at

    def put(self, content: str) -> str:
        return self.history.touch_mark()


@dataclass
class Outcome:
    """What a process came to: a report, or the error that ended it; neither if it was killed."""

    status: str | None = None
    code: str | None = None
    withheld: int = 0
    dead_lettered: int = 0


@dataclass
class Result:
    """What a seed came to. `trace` is equal for equal histories."""

    seed: int
    scenario: str
    violations: list[str]
    hits: Counter[str]
    trace: str
    processes: int
    seconds: float  # of virtual time


class History:
    """A source, a memory and a state folder that outlive the processes."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.checker = Checker(world)
        self.service = Service(world, self.checker)
        self.source = Source(world)
        self.checker.source, self.checker.service = self.source, self.service
        self.letters = LetterFile()
        self.marked_at: str | None = None
        self._mark_time = 0
        self.processes = self.checker.processes
        self.records_per_batch = 100
        self.record_attempts_max = 4
        self.rules = RULES
        self.backup: tuple[Path, bool] | None = None  # and whether a mark was beside the state

    # ------------------------------------------------------------------------------------------- processes

    async def run(
        self, verb: Verb = "run", *, allow_mass: bool = False, act: Act | None = None, **fates: Any
    ) -> Outcome:
        """One process from its beginning to its end; `fates` are those of `Process`.

        `act` is what it does instead of what the verb says: to make a plan, or to carry one out.
        """
        process = Process(self.world, f"process {len(self.processes) + 1} ({verb})", **fates)
        self.processes.append(process)
        outcome = Outcome()
        self.world.note(f"{process.name} begins")
        with trio.move_on_after(RUN_S_MAX) as limit:
            await process.live(lambda: self._live(process, verb, allow_mass, act, outcome))
        process.has_lock = False
        if limit.cancelled_caught:
            self.world.violate("never ends", process.name)
        self.world.hits[f"ended: {outcome.status or 'killed'}"] += 1
        if outcome.status in ("in_sync", "dead_letters", "guarded"):
            self.checker.has_leftovers = False
        elif outcome.status != "locked":
            self.checker.has_leftovers = True
        self.world.note(f"{process.name} ends: {outcome}")
        return outcome

    async def _live(self, process: Process, verb: Verb, allow_mass: bool, act: Act | None, outcome: Outcome) -> None:
        # As the operating system does: the lock is free if its last holder is dead, also if that one is only stopped.
        process.has_lock = not any(other.has_lock for other in self.processes if other is not process)
        tally = Tally("docs")
        try:
            async with self._job(process, tally, allow_mass) as job:
                # From here on, whoever began before is overtaken.
                self.checker.overtaken.update(other for other in self.processes if other is not process)
                if verb in _VERBS:
                    stop = Stop()
                    process.ask_to_stop = lambda: stop.ask(15)
                    job = await self._edited(job) if verb == "edit" else job  # noqa: PLW2901 - with what was edited
                    try:
                        await execute(job, _VERBS[verb], tally.report, stop, act)
                    finally:
                        process.require_life()
                elif verb == "drop":
                    await job.state.drop_letters([letter.id for letter in await self._refused(job)], self.world.now())
                    await job.dead_letters.rewrite(await job.state.letters())
                elif verb == "repair":
                    await repair(job)
                elif await job.state.acquainted_at() is None:
                    await rebuild(job)
        except BaseException as error:
            cause = first_error(error)
            if process.is_dead or not isinstance(cause, Exception):
                raise
            if not isinstance(cause, SyncError):
                self.world.violate("unexpected error", f"{type(cause).__name__} ended {process.name}")
            process.require_life()
            tally.report.status = "locked" if isinstance(cause, SourceLocked) else tally.report.status
            outcome.code = cause.code if isinstance(cause, DestinationError) else type(cause).__name__
            if tally.report.status == "in_sync":
                tally.report.status = "failed"
        process.require_life()
        self.checker.ended(process, outcome.code, self.letters.letters)
        report = tally.report
        if report.resent and verb == "run":
            self.world.hits["run: dead letters sent again"] += 1
        outcome.status = report.status if verb in _VERBS or outcome.code else "done"
        outcome.withheld, outcome.dead_lettered = report.withheld_documents, report.records.dead_lettered
        if outcome.status == "done" and verb != "drop":
            self.checker.mended(process)
        elif verb in ("run", "apply"):
            self.checker.reported(process, asdict(report))

    async def _refused(self, job: SourceJob) -> list[DeadLetter]:
        """The letters that a person takes in hand: what the memory holds of their documents then is his decision."""
        letters = [letter for letter in await job.state.letters() if letter.can_be_dropped and letter.code in REFUSED]
        for letter in letters:
            self.checker.tampered[letter.document_id] = self.world.now()
        return letters

    async def _edited(self, job: SourceJob) -> SourceJob:
        edits = {}
        for letter in await self._refused(job):
            if letter.record is not None:
                content = job.destination.content_of(letter.record)
                text = content.text.replace("reject", "edited").replace("poison", "edited")
                edits[letter.id] = content._replace(text=text)
        self.world.hits["operator: letters edited"] += len(edits)
        return replace(job, chosen=set(edits), edits=edits)

    @asynccontextmanager
    async def _job(self, process: Process, tally: Tally, allow_mass: bool) -> AsyncIterator[SourceJob]:
        rng = self.world.rng
        connection = AgentCoreConnection("docs-a1B2c3D4e5", concurrency=3)
        pacer = Pacer(dict.fromkeys(CALLS, 50.0), clock=trio.current_time, rng=rng)
        destination = AgentCoreDestination(connection, pacer, opener(self.service, process, self.checker.requested))
        destination.records_per_batch_max = self.records_per_batch  # type: ignore[misc]
        await destination._client()
        async with aclosing(destination), self._state(process) as state:
            has_lock = process.has_lock
            async with hold_lease(
                state, process.name, has_lock=has_lock, request_s=REQUEST_S, now=self.world.now
            ) as lease:
                yield SourceJob(
                    run_id=process.name,
                    connector=self.source,
                    parser=Parser(),
                    rules=self.rules,
                    limits=service_limits(),
                    destination=destination,
                    state=state,
                    dead_letters=self.letters.of(process),
                    pacer=pacer,
                    check=MemoryCheck(state, destination, self.rules, service_limits(), SETTLE_S, rng, self.world.now),
                    lease=lease,
                    deletes=DeletePolicy(allow_mass=allow_mass),
                    observe=tally,
                    open_workers=process.open_workers,
                    new_token=lambda: ClientToken(str(uuid.UUID(int=rng.getrandbits(128)))),
                    clock=trio.current_time,
                    now=self.world.now,
                    writers=3,
                    linger_s=0.5,
                    request_attempts_max=4,
                    record_attempts_max=self.record_attempts_max,
                    settle_s=SETTLE_S,
                    auto_replay=AUTO_REPLAY,
                )

    @asynccontextmanager
    async def _state(self, process: Process) -> AsyncIterator[SqliteStateStore]:
        path = self.folder / "state.sqlite3"
        async with open_state(
            path, source="docs", destination="memory", offload=process.offload, mark=SimulatedMark(self)
        ) as state:
            yield state

    # ------------------------------------------------------------------------------------ what others do

    def back_up(self) -> None:
        """Copy the state folder away, as it is."""
        copy = self.folder.with_name("backup")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.folder, copy)
        self.backup = (copy, self.marked_at is not None)

    def restore(self) -> None:
        """Put the copy in the state's place: all that it does not know of has happened all the same."""
        if self.backup is None:
            return
        self.world.hits["operator: old state restored"] += 1
        self.world.note("operator: an old state is restored")
        copy, has_mark = self.backup
        shutil.rmtree(self.folder)
        shutil.copytree(copy, self.folder)
        self.marked_at = None
        if has_mark:
            self.touch_mark()
        else:  # it was taken before the first run: the same as losing it
            self.checker.state_lost()

    def touch_mark(self) -> str:
        self._mark_time += 1
        self.marked_at = str(self._mark_time)
        return self.marked_at

    def lose_state(self) -> None:
        self.world.hits["operator: state lost"] += 1
        self.world.note("operator: the state is lost")
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        self.marked_at = None
        self.checker.state_lost()

    def tamper(self, kind: str) -> None:
        """Somebody else changes what is in the memory."""
        rng = self.world.rng
        ours = [record for record in self.service.records.values() if not record.is_foreign]
        records = sorted(ours, key=lambda record: record.id)
        if not records:
            return
        self.world.hits[f"others: {kind}"] += 1
        self.world.note(f"others: {kind}")
        record = rng.choice(records)
        chosen = records if kind == "memory emptied" else [record]
        for each in chosen:
            self.checker.tampered[name_of(each.content)[0]] = self.world.now()
        if kind in ("record vanishes", "memory emptied"):
            for each in chosen:
                self.service.remove(each)
        elif kind == "record edited":
            self.service.change(record, {**record.content, "content": {"text": "Forged by somebody else."}})
        elif kind == "record copied":
            self.service.insert(record.content, is_foreign=False)
        else:
            stranger = {"content": {"text": "Of somebody else."}, "namespaces": ["/docs/a/"], "metadata": {}}
            self.service.insert(stranger, is_foreign=True)

    # -------------------------------------------------------------------------------------------- the end

    async def converge(self) -> None:
        """With all faults off, an operator who does what the messages say gets the memory in line in three runs."""
        world = self.world
        world.has_faults = False
        for process in self.processes:
            process.thaw()
        await trio.sleep(200)
        if self.checker.tampered:
            await self.run("repair")
        for name, content in sorted(self.source.documents.items()):
            mended = {
                place: text.replace("poison", "mended").replace("reject", "mended") for place, text in content.items()
            }
            if mended != content:
                self.source.put(name, mended)
        runs, outcome = 0, Outcome()
        while runs < 3 and outcome.status != "in_sync":
            runs += 1
            outcome = await self.run("replay" if outcome.status == "dead_letters" else "run", allow_mass=True)
            if outcome.code == "records_missing":
                await self.run("repair")
                runs -= 1
            elif outcome.code == "ledger_lost":
                await self.run("recover")
                runs -= 1
        if outcome.status != "in_sync":
            world.violate("no convergence", f"after {runs} runs without faults: {outcome}")
            return
        if any(process.name.endswith("(replay)") for process in self.processes[-runs:]):
            await self.run()
        self.checker.require_equal()
        writes = self.service.writes
        again = await self.run()
        if again.status != "in_sync" or self.service.writes != writes:
            world.violate("not quiet", f"a run with nothing to do: {again}, {self.service.writes - writes} requests")
        if self.letters.letters:
            world.violate("letters left", f"{len(self.letters.letters)} in the file")


Scenario = Callable[[History], Any]


def run_seed(seed: int, scenario: str = "random", *, is_verbose: bool = False) -> Result:
    """Play one history. The same seed and scenario give the same one."""
    from tests.simulation.scenarios import SCENARIOS

    world = World(seed, is_verbose=is_verbose)
    clock = MockClock(autojump_threshold=0)
    ended_at = 0.0
    histories: list[History] = []

    async def story() -> None:
        nonlocal ended_at
        async with trio.open_nursery() as nursery:
            world.nursery = nursery
            history = History(world, folder)
            histories.append(history)
            await SCENARIOS[scenario](history)
            await history.converge()
            ended_at = trio.current_time()
            nursery.cancel_scope.cancel()

    base = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="memsync-simulation-", dir=base) as above:
        folder = Path(above) / "state"
        folder.mkdir()
        play(world, story, clock)
    count = len(histories[0].processes)
    return Result(seed, scenario, world.violations, world.hits, world.trace(), count, ended_at)
