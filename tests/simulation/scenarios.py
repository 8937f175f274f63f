"""Histories: one that draws everything by chance, and directed ones that provoke what chance seldom does."""

from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from pipeline.applying import apply_plan, make_plan
from pipeline.job import TOKEN_TRUST_S, SourceJob
from pipeline.model import PlanHeader
from pipeline.saved_plans import ChangeTable, Row
from tests.pipeline.examples import inline
from tests.simulation.driver import History, Verb
from tests.simulation.service import ODDITIES, TOKEN_MEMORY_S
from tests.simulation.source import FOLDERS
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
    *("save", "settle", "set_meta", "put", "begin_run", "take_lease", "letters", "create request"),
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
    "run: dead letters sent again",
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
    history.source.is_journal = rng.random() < 0.3
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
    history.records_per_batch = rng.choice((2, 5, 100))
    history.world.disk_s_max = rng.choice((0.0, 0.0, 0.05, 0.5))
    history.service.is_indexed = rng.random() < 0.5
    history.service.lag = rng.choice((0.0, 0.3, 1.0))
    # Who gives up at once has letters that a later run may send.
    history.record_attempts_max = rng.choice((1, 4, 4, 4))


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
    fate = rng.choice(
        ("none", "none", "step", "step", "point", "point", "seldom", "seldom", "seldom", "interrupt", "stop")
    )
    step = int(2 ** rng.uniform(3, 10.5))
    fates: dict[str, Any] = {}
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
    if what == "update request" and history.source.documents:
        edit(history, rng.choice(sorted(history.source.documents)))
    if what in ("remove", "delete request") and len(history.source.documents) > 1:
        history.source.put(min(history.source.documents), None)
    return "run"


async def operate(history: History, verb: Verb, fates: dict[str, Any]) -> None:
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


# ------------------------------------------------------------------------------------ directed histories


async def prepare(history: History, documents: int, paragraphs: int = 1) -> list[str]:
    """A first sync of some documents in a world without faults; all that was written shows by its end."""
    names = [f"{FOLDERS[number % 2]}d{number:02}.md" for number in range(documents)]
    for name in names:
        history.source.put(name, {f"p{n}": history.source.paragraph() for n in range(paragraphs)})
    await history.run()
    await trio.sleep(200)
    return names


def edit(history: History, name: str, *, marker: str = "") -> None:
    """Replace the first paragraph of a document."""
    content = history.source.documents[name]
    history.source.put(name, {**content, min(content): history.source.paragraph(marker)})


async def throttled_beyond_the_token(history: History) -> None:
    """An interrupted create waits behind a throttle until its token has aged."""
    faults, rng = history.service.faults, history.world.rng
    await prepare(history, 2)
    history.source.put("a/new.md", {"p": history.source.paragraph()})
    faults["service: reply lost"] = 1.0
    await history.run(at_point=("after create request", 1, kill))
    faults.clear()
    # It begins while the token is still trusted; and a run gives up if it is throttled for longer than this takes.
    waited_s = rng.uniform(300, 500)
    await trio.sleep(waited_s)
    faults["service: throttled"] = 1.0
    history.world.nursery.start_soon(relent, history, TOKEN_MEMORY_S - waited_s + rng.uniform(-200, 200))
    await history.run()


async def relent(history: History, seconds: float) -> None:
    await trio.sleep(seconds)
    history.service.faults.clear()


async def sent_late_and_looked_up_early(history: History) -> None:
    """A create leaves long after it was saved, and its outcome is looked up at once: no listing shows it yet."""
    history.service.lag = 1.0
    history.source.put("a/new.md", {f"p{n}": history.source.paragraph() for n in range(3)})
    history.service.faults["service: throttled"] = 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(history.run)
        await trio.sleep(TOKEN_TRUST_S + history.world.rng.uniform(1, 30))
        history.service.faults.clear()
        history.service.faults["service: reply lost"] = 1.0
        writes = history.service.writes
        while history.service.writes == writes:  # noqa: ASYNC110 - in virtual time
            await trio.sleep(0.1)
        kill(history.processes[0])
    history.service.faults.clear()
    await history.run()


async def edited_at_once(history: History) -> None:
    """An interrupted create is delivered, and its records are to be updated at once: nothing shows them yet."""
    history.records_per_batch = 2
    history.service.latency_s_max = 0.05
    names = [f"a/d{number}.md" for number in range(6)]
    for name in names:
        history.source.put(name, {"p": history.source.paragraph()})
    await history.run(at_point=("before create request", 1, kill))
    for name in names:
        edit(history, name)
    await history.run()


async def late_update(history: History) -> None:
    """An update whose sender died is carried out after the next run has begun, which has a newer version."""
    names = await prepare(history, 3)
    for name in names:
        edit(history, name)
    history.service.faults["service: carried out late"] = 1.0
    await history.run(at_point=("after update request", 1, kill))
    history.service.faults.clear()
    for name in names:
        edit(history, name)
    await history.run()


async def stopped_beyond_its_lease(history: History) -> None:
    """A run is stopped anywhere, or before it sends; another one takes over, the source moves on, the first wakes."""
    rng = history.world.rng
    names = await prepare(history, 4)
    for name in names:
        edit(history, name)
    history.source.put("a/new.md", {"p": history.source.paragraph()})
    history.service.faults["service: reply lost"] = rng.choice((0.0, 0.5))
    async with trio.open_nursery() as nursery:
        anywhere = {"at_step": (rng.randint(20, 500), stop_for_long)}
        before_it_sends = {"at_point": ("after save", rng.randint(1, 3), stop_for_long)}
        nursery.start_soon(operate, history, "run", rng.choice((anywhere, before_it_sends)))
        await trio.sleep(rng.uniform(150, 300))
        for name in names:
            edit(history, name)
        async with trio.open_nursery() as beside:
            beside.start_soon(operate, history, "run", {})
            await trio.sleep(rng.uniform(0, 3))
            for process in history.processes:
                process.thaw()


async def long_run(history: History) -> None:
    """A run that takes longer than a lease is left alone by one that begins meanwhile."""
    await prepare(history, 2)
    history.source.put("a/new.md", {"p": history.source.paragraph()})
    history.service.faults["service: throttled"] = 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(operate, history, "run", {})
        for _ in range(3):
            await trio.sleep(history.world.rng.uniform(100, 400))
            await history.run()
        history.service.faults.clear()


async def not_mounted(history: History) -> None:
    """All documents, or most of them, cannot be seen for a while, or have no text: that is no wish to delete them."""
    rng = history.world.rng
    names = await prepare(history, rng.choice((6, 16)))
    is_small = len(names) == 6
    gone = set(names if is_small else rng.sample(names, rng.choice((12, 14, 16))))
    if is_small or rng.random() < 0.5:
        history.source.hidden = gone
    else:
        history.source.truncated = gone
        for name in gone:
            history.source.changed_at[name] = history.world.now()
    history.source.lied_at = float("inf")
    await history.run(rng.choice(("run", "run", "replay")))
    await history.run()
    history.source.hidden, history.source.truncated = set(), set()
    history.source.lied_at = 0.0


async def folder_shut(history: History) -> None:
    """A folder cannot be listed, nor is anything in it found when asked for: that is no wish to delete it either."""
    rng, source = history.world.rng, history.source
    names = await prepare(history, rng.choice((4, 16)))
    source.shut = rng.choice(FOLDERS)
    source.hidden = {name for name in names if name.startswith(source.shut)}
    source.lied_at = float("inf")
    await history.run(rng.choice(("run", "run", "replay")))
    await history.run()
    source.shut, source.hidden, source.lied_at = None, set(), 0.0


async def refused_replacement(history: History) -> None:
    """A document becomes shorter, and the memory refuses what is new in it."""
    (name,) = await prepare(history, 1, paragraphs=5)
    marker = history.world.rng.choice(("poison", "reject"))
    history.source.put(name, {"new": history.source.paragraph(marker), "newer": history.source.paragraph()})
    await trio.sleep(1)  # so that it changed before the run began
    await history.run()
    await history.run("replay")


async def vanished_before_its_update(history: History) -> None:
    """Somebody has deleted records whose documents are edited: the updates find nothing, and must become creates."""
    names = await prepare(history, 4)
    for _ in range(history.world.rng.randint(1, 2)):
        history.tamper("record vanishes")
    for name in names:
        edit(history, name)
    await history.run()


async def emptied_memory(history: History) -> None:
    """Somebody has emptied the memory; a run that has something to write must not write it."""
    names = await prepare(history, 6)
    history.tamper("memory emptied")
    edit(history, names[0])
    writes = history.service.writes
    outcome = await history.run()
    if history.service.writes != writes or outcome.status == "in_sync":
        history.world.violate("wrote into an emptied memory", f"{outcome}")
    await history.run("repair")


async def batches_cut_short(history: History) -> None:
    """Documents of more records than a batch holds, and a death between two batches."""
    history.records_per_batch = 2
    rng = history.world.rng
    history.world.disk_s_max = rng.choice((0.0, 0.3))
    history.source.put("a/long.md", {f"p{n}": history.source.paragraph() for n in range(7)})
    history.source.put("b/long.jsonl", {f"p{n}": history.source.paragraph() for n in range(7)})
    point = rng.choice(("after save", "before save", "after create request", "before create request", "after settle"))
    await history.run(at_point=(point, rng.randint(1, 4), kill))
    await trio.sleep(rng.choice((1, TOKEN_MEMORY_S + 1)))
    await history.run()


async def interrupted_rebuild(history: History) -> None:
    """A rebuild is cut off anywhere, and the next run begins while its first one is unfinished."""
    rng = history.world.rng
    await prepare(history, 5, paragraphs=2)
    if rng.random() < 0.5:
        history.back_up()
        history.source.put("a/new.md", {f"p{n}": history.source.paragraph() for n in range(3)})
        await history.run()
        history.restore()
    else:
        history.lose_state()
    point = rng.choice(
        ("after adopt", "before adopt", "after discard_outbox", "after set_meta", "after list_memory_records")
    )
    await history.run("recover", at_point=(point, rng.randint(1, 2), kill))
    await operate(history, "run", {})


async def mended_by_repair(history: History) -> None:
    """Others have deleted, edited and copied; a repair and a run set it right, whatever listings still show."""
    rng = history.world.rng
    await prepare(history, 6)
    for _ in range(rng.randint(1, 4)):
        history.tamper(rng.choice(("record vanishes", "record edited", "record copied")))
    if rng.random() < 0.5:
        history.source.put("a/new.md", {"p": history.source.paragraph()})
        await history.run()
    await trio.sleep(rng.choice((0, 200)))
    await history.run("repair")
    await history.run()
    if rng.random() < 0.5:
        await history.run("repair")


async def other_names(history: History) -> None:
    """Documents swap names, take those that others had, and go back, while runs end at any moment."""
    rng, source = history.world.rng, history.source
    for number in range(3):
        source.put(f"a/t{number}.jsonl", {f"p{n}": source.paragraph() for n in range(3)})
    await prepare(history, 4, paragraphs=2)
    for _ in range(3):
        for _ in range(rng.randint(1, 3)):
            name = rng.choice(sorted(source.documents))
            source.rename(name, source.other_name(name))
        point = rng.choice(("before rename", "after rename", "after save", "after remove", "after update request"))
        await killed_run(history, point)
        if rng.random() < 0.3:
            await history.run("repair")


async def journal(history: History) -> None:
    """A source that shows what has changed is edited, and runs end at any moment."""
    rng, source = history.world.rng, history.source
    source.is_journal = True
    source.put("a/table.jsonl", {f"p{n}": source.paragraph() for n in range(3)})
    await prepare(history, 4)
    source.faults = dict.fromkeys(("source: unreadable", "source: cannot tell", "source: listing breaks"), 0.1)
    for _ in range(4):
        for _ in range(rng.randint(0, 3)):
            source.edit_something()
        point = rng.choice(("before set_meta", "after save", "before save", "after remove", "after settle"))
        await killed_run(history, point)
        if rng.random() < 0.3:
            await history.run(rng.choice(("repair", "replay", "run")))


async def ill_for_a_while(history: History) -> None:
    """Records fail until they are given up on, and runs send them again by themselves, whenever these die."""
    rng, service = history.world.rng, history.service
    names = await prepare(history, 4, paragraphs=2)
    edit(history, names[0])
    history.source.put("a/new.md", {f"p{n}": history.source.paragraph() for n in range(3)})
    history.source.put(names[1], None)
    service.faults["service: record failed"] = rng.choice((0.7, 1.0))
    await history.run()
    for _ in range(rng.randint(1, 5)):
        await trio.sleep(rng.choice((30, 61, 130, 700)))
        if rng.random() < 0.3:
            history.source.edit_something()
        point = rng.choice(("before save", "after save", "before settle", "after settle", "after letters"))
        await killed_run(history, point)
        if rng.random() < 0.5:
            service.faults["service: record failed"] = rng.choice((0.0, 0.3, 1.0))
    service.faults.clear()
    await trio.sleep(700)


async def taken_in_hand(history: History) -> None:
    """A person drops and edits what the memory does not want; the commands die anywhere, and are typed again."""
    rng, source = history.world.rng, history.source
    names = await prepare(history, 4, paragraphs=3)
    for _ in range(rng.randint(1, 3)):
        name = rng.choice([name for name in names if name in source.documents])
        edit(history, name, marker=rng.choice(("reject", "poison")))
        await operate(history, "run", {})
        verb: Verb = rng.choice(("edit", "edit", "drop"))
        points = ("before drop_letters", "after drop_letters", "before save", "after save", "after update request")
        point = rng.choice((*points, "before settle", "after settle", "after create request", "after letters"))
        await operate(history, verb, {"at_point": (point, 1, kill)} if rng.random() < 0.7 else {})
        if rng.random() < 0.4:
            await operate(history, verb, {})
        await trio.sleep(rng.choice((1, 200, TOKEN_MEMORY_S + 1)))
        if rng.random() < 0.4:
            await edit_meanwhile(history)
        await killed_run(history, rng.choice(("before save", "after save", "after settle", "before remove")))
    await history.run(allow_mass=True)
    before = await history.run(allow_mass=True)
    for name, content in sorted(source.documents.items()):
        source.put(name, {**content, "last": source.paragraph()})
    after = await history.run(allow_mass=True)
    if before.status == "in_sync" and after.status == "dead_letters":
        history.world.violate("decision undone", "what a person had decided of a document went with an edit elsewhere")


async def killed_run(history: History, point: str) -> None:
    """A run that is killed at `point`, or somewhere else; people edit meanwhile."""
    rng = history.world.rng
    fates = {"at_step": (rng.randint(50, 800), kill)} if rng.random() < 0.3 else {"at_point": (point, 1, kill)}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(operate, history, "run", fates)
        if rng.random() < 0.4:
            nursery.start_soon(edit_meanwhile, history)
    await trio.sleep(rng.choice((1, 200)))


async def lapsing(history: History) -> None:
    """Records have a time to live, runs end at any moment, and sometimes there is none for longer than that."""
    rng, source = history.world.rng, history.source
    history.rules = replace(history.rules, expiry_days=31)
    source.is_journal = rng.random() < 0.3
    source.put("a/table.jsonl", {f"p{n}": source.paragraph() for n in range(3)})
    await prepare(history, 4, paragraphs=2)
    for _ in range(rng.randint(3, 7)):
        await trio.sleep(86_400 * rng.choice((0.1, 3, 8, 8, 8, 15, 40)))
        for _ in range(rng.randint(0, 2)):
            source.edit_something()
        if rng.random() < 0.1:
            history.rules = replace(history.rules, expiry_days=rng.choice((31, 60, None)))
        if rng.random() < 0.5:
            await killed_run(history, rng.choice(("after save", "before settle", "after update request")))
        else:
            await operate(history, rng.choice(("run", "run", "repair", "replay")), {})


async def saved_plan(history: History) -> None:
    """A plan is made, the source moves or does not, the plan is carried out and cut off, and carried on with."""
    rng, source = history.world.rng, history.source
    history.records_per_batch = rng.choice((2, 100))
    names = await prepare(history, 5, paragraphs=2)
    for name in rng.sample(names, 2):
        edit(history, name)
    source.put(names[0], None)
    source.put("a/new.jsonl", {f"p{n}": source.paragraph() for n in range(4)})
    plan = Plan()
    await history.run("plan", act=plan.make)
    held, writes = plan.keys_held(history), history.service.writes

    has_moved = rng.random() < 0.3
    if has_moved:
        edit(history, names[4])
    history.service.faults = {"service: reply lost": 0.2, "service: 500 before": 0.1}
    fates: dict[str, Any] = {}
    if rng.random() < 0.6:
        what = ("save", "settle", "create request", "note_plan_use", "remove", "delete request")
        fates["at_point"] = (f"{rng.choice(('before', 'after'))} {rng.choice(what)}", rng.randint(1, 2), kill)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(history.run, "apply", act=plan.carry_out, **fates))
        if rng.random() < 0.3:
            nursery.start_soon(edit_meanwhile, history)
    if has_moved and history.service.writes != writes:
        history.world.violate("wrote what was not planned", "the source had moved before")
    history.service.faults = {}
    if rng.random() < 0.5:
        await history.run("apply", act=plan.carry_out)
    for unplanned in sorted((plan.keys_held(history) ^ held) - plan.keys):
        history.world.violate("wrote what was not planned", unplanned[:6])


class Plan:
    """A saved plan of one history, and the keys of the records that it speaks of."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.keys: set[str] = set()
        self.header: PlanHeader | None = None

    def keys_held(self, history: History) -> set[str]:
        return {record.key for record in history.service.records.values()}

    async def make(self, job: SourceJob) -> None:
        with closing(ChangeTable(inline)) as table:
            self.header = await make_plan(job, [table], plan_id="plan", memory="memory")
            self.rows = list(table.found())
        self.keys = {key for _, _, _, key, _, replaces in self.rows} | {replaces for *_, replaces in self.rows}

    async def carry_out(self, job: SourceJob) -> None:
        if self.header is not None:
            with closing(ChangeTable(inline)) as table:
                table.load(self.rows)
                await apply_plan(job, self.header, table)


SCENARIOS: dict[str, Callable[[History], Awaitable[None]]] = {
    "random": random_history,
    "throttled_beyond_the_token": throttled_beyond_the_token,
    "sent_late_and_looked_up_early": sent_late_and_looked_up_early,
    "edited_at_once": edited_at_once,
    "late_update": late_update,
    "stopped_beyond_its_lease": stopped_beyond_its_lease,
    "long_run": long_run,
    "not_mounted": not_mounted,
    "folder_shut": folder_shut,
    "refused_replacement": refused_replacement,
    "vanished_before_its_update": vanished_before_its_update,
    "emptied_memory": emptied_memory,
    "batches_cut_short": batches_cut_short,
    "interrupted_rebuild": interrupted_rebuild,
    "mended_by_repair": mended_by_repair,
    "other_names": other_names,
    "journal": journal,
    "ill_for_a_while": ill_for_a_while,
    "taken_in_hand": taken_in_hand,
    "lapsing": lapsing,
    "saved_plan": saved_plan,
}
