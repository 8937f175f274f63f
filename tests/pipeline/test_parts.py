"""Documents with parts (mails with attachments, archives) through whole runs: what is counted, kept and removed."""

import gzip
import io
import zipfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.message import EmailMessage

import anyio
import pytest
from trio.testing import MockClock

from pipeline.events import RunEvent
from pipeline.model import DocumentId, DocumentPlan, DocumentRef, Fingerprint, Unread
from pipeline.planner import Planner
from pipeline.sightings import Sightings
from pipeline.state.sqlite import open_state
from pipeline.sync import replay
from tests.fakes.destination import MemoryDestination
from tests.fakes.source import MemorySource
from tests.pipeline.examples import inline, memory
from tests.pipeline.world import AnyWorld, in_place

BROKEN_ZIP = b"PK\x03\x04 cut off"


@dataclass
class World(AnyWorld):
    source: MemorySource

    def documents(self) -> set[str]:
        return {record.document for record in self.memory.records.values()}


def on_virtual_time(story: Callable[[World], Awaitable[None]]) -> None:
    async def play() -> None:
        world = World(MemorySource(), MemoryDestination())
        async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
            await story(world)

    anyio.run(play, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


def mail(text: str, **attachments: str | bytes) -> bytes:
    """A mail with `attachments`, whose names have `_` for a dot."""
    message = EmailMessage()
    message["Subject"] = "s"
    message.set_content(text)
    for name, content in attachments.items():
        data = content if isinstance(content, bytes) else content.encode()
        message.add_attachment(
            data, maintype="application", subtype="octet-stream", filename=name.replace("_", "."), cte="base64"
        )
    # What stands between the parts is chance otherwise.
    if message.is_multipart():
        message.set_boundary("between")
    return message.as_bytes()


def archive(**members: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, text in members.items():
            file.writestr(zipfile.ZipInfo(name.replace("_", ".")), text)
    return packed.getvalue()


def test_a_mail_that_did_not_change_is_not_fetched_again() -> None:
    """Neither are its attachments, of which each counts as a document."""

    async def story(world: World) -> None:
        world.source.documents = {
            "1.eml": mail("alone"),
            "2.eml": mail("with two", a_txt="first", b_png="left out", c_txt="second"),
        }

        reports = [await world.do(), await world.do()]

        assert [report.documents.seen for report in reports] == [4, 4]
        assert [report.documents.unchanged for report in reports] == [0, 4]
        assert [report.documents.skipped for report in reports] == [{"unsupported type .png": 1}] * 2
        assert sorted(world.source.fetched) == ["1.eml", "2.eml"]
        assert world.documents() == {"1.eml", "2.eml#message", "2.eml#a.txt", "2.eml#c.txt"}

    on_virtual_time(story)


def test_an_attachment_that_is_gone_is_removed() -> None:
    """A complete reading of the mail proves it."""

    async def story(world: World) -> None:
        world.source.documents = {"1.eml": mail("text", a_txt="first", b_txt="second")}
        await world.do()
        world.source.documents["1.eml"] = mail("text", a_txt="first")

        report = await world.do()

        assert world.documents() == {"1.eml#message", "1.eml#a.txt"}
        assert (report.documents.unchanged, report.documents.removed) == (2, 1)
        assert (await world.do()).documents.removed == 0

    on_virtual_time(story)


def test_a_document_that_gets_parts_leaves_nothing_of_itself_behind() -> None:
    """A draft that gets its attachment; and one that loses it again."""

    async def story(world: World) -> None:
        for content, documents in (
            (mail("text"), {"1.eml"}),
            (mail("text", a_txt="more"), {"1.eml#message", "1.eml#a.txt"}),
            (mail("text"), {"1.eml"}),
        ):
            world.source.documents = {"1.eml": content}
            await world.do()
            await world.do()

            assert world.documents() == documents

    on_virtual_time(story)


def test_a_broken_part_is_a_dead_letter_of_its_own_and_the_others_go_on() -> None:
    """It is not tried again before it changes, and counted in every run."""

    async def story(world: World) -> None:
        world.source.documents = {"1.eml": mail("text", a_zip=BROKEN_ZIP, b_txt="second")}

        reports = [await world.do() for _ in range(3)]

        assert [(report.documents.seen, report.documents.failed) for report in reports] == [(3, 1)] * 3
        assert world.documents() == {"1.eml#message", "1.eml#b.txt"}
        assert world.source.fetched == ["1.eml"]
        assert [letter.document_id for letter in await world.state.letters()] == ["1.eml#a.zip"]

    on_virtual_time(story)


def test_a_part_that_breaks_keeps_its_records_and_heals() -> None:
    """What cannot be read now may be readable again tomorrow; nobody said that it is gone."""

    async def story(world: World) -> None:
        world.source.documents = {"1.zip": archive(a_md="one", b_jsonl='{"id": 1, "text": "two"}')}
        await world.do()
        world.source.documents["1.zip"] = archive(a_md="one", b_jsonl="{broken")

        reports = [await world.do(), await world.do()]

        assert [report.documents.failed for report in reports] == [1, 1]
        assert [report.documents.removed for report in reports] == [0, 0]
        assert world.documents() == {"1.zip#a.md", "1.zip#b.jsonl#1"}

        world.source.documents["1.zip"] = archive(a_md="one", b_jsonl='{"id": 1, "text": "three"}')
        await world.do()
        report = await world.do()

        assert world.documents() == {"1.zip#a.md", "1.zip#b.jsonl#1"}
        assert report.documents.failed == 0
        assert await world.state.letters() == []

    on_virtual_time(story)


@pytest.mark.parametrize("now", ["", BROKEN_ZIP])
def test_an_archive_in_a_document_that_breaks_or_is_emptied_keeps_its_files(now: str | bytes) -> None:
    """The document around it was read to its end, but the archive was not."""

    async def story(world: World) -> None:
        world.source.documents = {"1.eml": mail("text", a_zip=archive(x_md="one", y_md="two"), b_txt="first")}
        await world.do()
        world.source.documents["1.eml"] = mail("text", a_zip=now, b_txt="first")

        reports = [await world.do() for _ in range(3)]

        assert world.documents() == {"1.eml#message", "1.eml#a.zip#x.md", "1.eml#a.zip#y.md", "1.eml#b.txt"}
        assert [(report.documents.failed, report.documents.removed) for report in reports] == [(1, 0)] * 3
        assert [report.records.unchanged for report in reports] == [4, 4, 4]

    on_virtual_time(story)


@pytest.mark.parametrize("now", [BROKEN_ZIP, b""])
def test_an_attachment_that_breaks_keeps_its_own_records(now: bytes) -> None:
    """As a document that breaks does."""

    async def story(world: World) -> None:
        world.source.documents = {"1.eml": mail("text", a_gz=gzip.compress(b"one"), b_txt="first")}
        await world.do()
        world.source.documents["1.eml"] = mail("text", a_gz=now, b_txt="first")

        reports = [await world.do() for _ in range(3)]

        assert world.documents() == {"1.eml#message", "1.eml#a.gz", "1.eml#b.txt"}
        assert [(report.documents.failed, report.documents.removed) for report in reports] == [(1, 0)] * 3

    on_virtual_time(story)


def test_a_mail_that_is_cut_off_keeps_the_attachments_that_it_had() -> None:
    """They were behind the cut; what is left of it is brought in line."""

    async def story(world: World) -> None:
        content = mail("text", a_txt="first", b_txt="second")
        world.source.documents = {"1.eml": content}
        await world.do()
        world.source.documents["1.eml"] = content[: content.rindex(b"--between\n")].replace(b"text\n", b"new text\n")

        reports = [await world.do() for _ in range(3)]

        assert world.documents() == {"1.eml#message", "1.eml#a.txt", "1.eml#b.txt"}
        assert [(report.documents.removed, report.records.updated) for report in reports] == [(0, 1), (0, 0), (0, 0)]
        assert [letter.code for letter in await world.state.letters()] == ["cut_off"]

        world.source.documents["1.eml"] = content
        await world.do()
        report = await world.do()

        assert (report.documents.unchanged, report.documents.failed) == (3, 0)

    on_virtual_time(story)


@pytest.mark.parametrize("end", [b"MIME-Version", b"--between\n", b"words", b"--between\nContent-Type: app"])
def test_a_mail_that_is_cut_off_before_its_attachments_keeps_them(end: bytes) -> None:
    """As a file has it that is still being written: in its head, before and in its text, and behind that."""

    async def story(world: World) -> None:
        content = mail("text and words", a_txt="first", b_txt="second")
        world.source.documents = {"1.eml": content}
        await world.do()
        world.source.documents["1.eml"] = content[: content.index(end)]

        report = await world.do()

        assert world.documents() == {"1.eml#message", "1.eml#a.txt", "1.eml#b.txt"}
        assert report.documents.removed == 0
        assert [letter.code for letter in await world.state.letters()] == ["cut_off"]

        world.source.documents["1.eml"] = content
        await world.do()

        assert world.documents() == {"1.eml#message", "1.eml#a.txt", "1.eml#b.txt"}
        assert not await world.state.letters()

    on_virtual_time(story)


def test_a_part_that_changed_while_it_could_not_be_read_is_read_once_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package for it was missing for a while, as after a move to another machine."""

    async def story(world: World) -> None:
        def have_extra(is_there: bool) -> None:
            for module in ("media_types", "parser"):
                monkeypatch.setattr(f"pipeline.parsing.{module}.has_documents_extra", lambda: is_there)

        world.source.documents = {"1.zip": archive(a_txt="text", b_rtf="{\\rtf1 before\\par}")}
        await world.do()
        have_extra(False)
        world.source.documents = {"1.zip": archive(a_txt="text", b_rtf="{\\rtf1 after\\par}")}
        without = [await world.do(), await world.do()]
        kept = world.texts()
        have_extra(True)

        done = await world.do()

        assert [report.documents.failed for report in without] == [1, 1]
        assert kept == ["before", "text"]
        assert world.texts() == ["after", "text"]
        assert (done.documents.failed, done.records.dead_lettered) == (0, 0)
        assert world.source.fetched == ["1.zip"] * 3

    on_virtual_time(story)


def test_a_replay_reads_a_broken_part_again() -> None:
    """By its letter alone the document around it must be found."""

    async def story(world: World) -> None:
        world.source.documents = {"1.eml": mail("text", a_zip=BROKEN_ZIP)}
        await world.do()

        await world.do(replay)

        assert world.source.fetched == ["1.eml", "1.eml"]
        assert [letter.attempts for letter in await world.state.letters()] == [2]
        assert world.documents() == {"1.eml#message"}

    on_virtual_time(story)


def test_a_document_that_breaks_as_a_whole_keeps_its_parts() -> None:
    """An archive that was cut off while it was uploaded."""

    async def story(world: World) -> None:
        world.source.documents = {"1.zip": archive(a_md="one", b_md="two")}
        await world.do()
        world.source.documents["1.zip"] = BROKEN_ZIP

        reports = [await world.do(), await world.do()]

        assert world.documents() == {"1.zip#a.md", "1.zip#b.md"}
        assert [report.documents.failed for report in reports] == [1, 1]
        assert [report.records.unchanged for report in reports] == [2, 2]

    on_virtual_time(story)


@pytest.mark.parametrize("has_parts", [True, False])
async def test_a_document_that_failed_after_some_of_its_parts_is_known_to_have_parts(*, has_parts: bool) -> None:
    """Else the next run would take it for one without, and delete them; they may not be in the ledger yet."""
    events: list[RunEvent] = []
    ref = DocumentRef(DocumentId("a.zip"), "memory:///a.zip", Fingerprint("1"))
    async with open_state(None, source="s", destination="d", offload=inline) as store:
        planner = Planner("s", "recipe-1", "run-1", store, memory(), Sightings(0), events.append, lambda: 0.0)

        (plan,) = await planner.plan([Unread(ref, "parse", "parser_crashed", "it ended", has_parts=has_parts)])

    assert isinstance(plan, DocumentPlan)
    assert plan.state is not None
    assert plan.state.has_parts is has_parts
