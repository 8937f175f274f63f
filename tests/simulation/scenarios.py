"""Histories: one that draws everything by chance, and directed ones that provoke what chance seldom does."""

from collections.abc import Awaitable, Callable

import trio

from tests.simulation.driver import History, Verb
from tests.simulation.service import ODDITIES, TOKEN_MEMORY_S
from tests.simulation.world import Process

SOURCE_FAULTS = (
    "source: missing",
    "source: folder shut",
    "source: looks empty",
    "source: listing breaks",
    "source: document forgotten",
    "source: listed twice",
    "source: end not said",
    "source: vanished",
    "source: unreadable",
    "source: cannot tell",
)
SERVICE_FAULTS = (
    "service: throttled",
    "service: 500 before",
    "service: 500 after",
    "service: request lost",
    "service: reply lost",
    "service: carried out late",
    "service: odd answer",
    "service: record throttled",
    "service: record failed",
    "service: read throttled",
    "service: read failed",
)
TAMPERINGS = ("record vanishes", "record edited", "record copied", "stranger comes", "memory emptied")
# Where a process can be killed by name; the second kind is seldom passed, so it is chosen more often.
_OFTEN = (
    *("save", "settle", "set_meta", "confirm_mark", "begin_run", "take_lease", "letters", "create request"),
    "list_memory_records",
)
_SELDOM = ("remove", "adopt", "forget", "discard_outbox", "update request", "delete request", "get_memory_record")
OFTEN, SELDOM = (
    tuple(f"{when} {what}" for when in ("before", "after") for what in names) for names in (_OFTEN, _SELDOM)
)
POINTS = (*OFTEN, *SELDOM)
_OF_REPAIRS = ("adopt", "forget", "discard_outbox")

MUST_HAPPEN = (
    *SOURCE_FAULTS,
    *SERVICE_FAULTS,
    *(f"answer: {kind}" for kind in ODDITIES),
    *(f"others: {kind}" for kind in TAMPERINGS),
    *(f"at {point}" for point in POINTS),
    "service: access denied",
    "service: batch refused",
    "service: record refused",
    "service: token recognised",
    "service: update of a young record",
    "service: update of a record that is not there",
    "service: delete of a record that is not there",
    "operator: old state restored",
    "operator: state lost",
    "process: killed",
    "process: interrupted",
    "process: stopped",
    "process: second one at once",
)


def kill(process: Process) -> None:
    process.world.hits["process: killed"] += 1
    process.kill()


def interrupt(process: Process) -> None:
    process.world.hits["process: interrupted"] += 1
    process.ask_to_stop()


def stop_for_long(process: Process) -> None:
    """As SIGSTOP does, until long after the lease has ended."""
    process.world.hits["process: stopped"] += 1
    process.freeze()


async def random_history(history: History) -> None:
    """Some runs, with whatever the seed has drawn going wrong in them and between them."""
    world, rng = history.world, history.world.rng
    draw_faults(history)
    for _ in range(rng.randint(1, 8)):
        history.source.edit_something()
    for _ in range(rng.randint(2, 6)):
        await edit_and_tamper(history)
        await one_run(history)
        await trio.sleep(rng.choice((1, 5, 30, 100, 400, TOKEN_MEMORY_S + 1, 86_400)))
    world.has_faults = False


def draw_faults(history: History) -> None:
    rng = history.world.rng
    for faults, kinds, strongest in (
        (history.source.faults, SOURCE_FAULTS, 0.25),
        (history.service.faults, SERVICE_FAULTS, 0.35),
    ):
        for kind in rng.sample(kinds, rng.randint(0, 5)):
            faults[kind] = rng.uniform(0.02, strongest)
    if rng.random() < 0.3:
        history.service.faults["service: odd answer"] = rng.uniform(0.1, 0.4)
    if "service: read failed" in history.service.faults:
        history.service.faults["service: read failed"] /= 4
    history.service.is_indexed = rng.random() < 0.5
    history.service.lag = rng.choice((0.0, 0.3, 1.0))


async def edit_and_tamper(history: History) -> None:
    world, rng, source = history.world, history.world.rng, history.source
    for _ in range(rng.randint(0, 4)):
        source.edit_something()
    if rng.random() < 0.2 and source.documents:
        name = rng.choice(sorted(source.documents))
        marker = rng.choice(("poison", "reject"))
        world.hits[f"source: text that is refused ({marker})"] += 1
        source.put(name, {**source.documents[name], "bad": source.paragraph(marker)})
    if rng.random() < 0.1:
        history.service.denied_until = world.now() + rng.uniform(1, 100)
    if rng.random() < 0.15:
        history.tamper(rng.choice(TAMPERINGS))
    if rng.random() < 0.2:
        history.back_up()
    elif history.backup is not None and rng.random() < 0.3:
        history.restore()
    elif rng.random() < 0.05:
        history.lose_state()


async def one_run(history: History) -> None:
    """A process with its fate, and perhaps another one beside it; people edit meanwhile."""
    world, rng = history.world, history.world.rng
    verb: Verb = rng.choice(("run", "run", "run", "run", "replay", "repair"))
    fate = rng.choice(("none", "none", "step", "step", "point", "point", "seldom", "seldom", "interrupt", "stop"))
    step = int(2 ** rng.uniform(3, 10.5))
    fates: dict[str, object] = {}
    if fate == "step":
        fates["at_step"] = (step, kill)
    elif fate == "point":
        fates["at_point"] = (rng.choice(OFTEN), rng.choice((1, 1, 1, 2, 3)), kill)
    elif fate == "seldom":
        point = rng.choice(SELDOM)
        fates["at_point"] = (point, 1, kill)
        verb = prepare_for(history, point)
    elif fate == "interrupt":
        fates["at_step"] = (step, interrupt)
    elif fate == "stop":
        fates["at_step"] = (step, stop_for_long)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(operate, history, verb, fates)
        if rng.random() < 0.5:
            nursery.start_soon(edit_meanwhile, history)
        if rng.random() < 0.15:
            world.hits["process: second one at once"] += 1
            await trio.sleep(rng.uniform(0, 5))
            await operate(history, "run", {})
        if fate == "stop":
            await trio.sleep(rng.uniform(150, 1500))
            await operate(history, "run", {})
            for process in history.processes:
                process.thaw()


def prepare_for(history: History, point: str) -> Verb:
    """Give the next process a reason to come to `point`; return what it should do."""
    rng = history.world.rng
    what = point.partition(" ")[2]
    if what == "discard_outbox" or (what == "adopt" and rng.random() < 0.5):
        history.restore()
        return "repair"
    if what in _OF_REPAIRS:
        history.tamper("record vanishes" if what == "forget" else "record copied")
        return "repair"
    for _ in range(2):
        history.source.edit_something()
    if what in ("remove", "delete request") and len(history.source.documents) > 1:
        history.source.put(min(history.source.documents), None)
    return "run"


async def operate(history: History, verb: Verb, fates: dict[str, object]) -> None:
    """Run, and do what the message says."""
    outcome = await history.run(verb, **fates)
    if outcome.code == "records_missing":
        await history.run("repair")
    elif outcome.code == "ledger_lost":
        await history.run("recover")
    elif outcome.status == "guarded" and not history.world.has_faults:
        await history.run("run", allow_mass=True)


async def edit_meanwhile(history: History) -> None:
    rng = history.world.rng
    for _ in range(rng.randint(1, 4)):
        await trio.sleep(rng.uniform(0, 3))
        history.source.edit_something()


SCENARIOS: dict[str, Callable[[History], Awaitable[None]]] = {"random": random_history}
