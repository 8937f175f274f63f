"""What cannot be stored is kept, counted and named; everything beside it is stored; and it can be sent again."""

import stat

import pytest

from .conftest import Folder, Memory, Memsync

MEMBERS = {
    "schema",
    "id",
    "source",
    "document_id",
    "operation",
    "record",
    "digest",
    "error",
    "attempts",
    "first_failed_at",
    "last_failed_at",
    "run_id",
    "client_token",
}
KILLERS = ("100.md", "250.md")  # a batch with one of these is refused as a whole
REFUSED = ("017.md", "399.md")  # these come back in `failedRecords`
GIVEN_UP = sorted((*KILLERS, *REFUSED))
WORDS = {"killer.md": "poison", "refused.md": "unwanted", "good.md": "fine"}


@pytest.fixture
def with_four_dead_letters(docs: Folder, memory: Memory, memsync: Memsync) -> Folder:
    """400 documents after a run, in which a service that names no culprit took all but four."""
    docs.write_documents(400)
    for name in KILLERS:
        docs.write(name, f"This is poison, in {name}.")
    for name in REFUSED:
        docs.write(name, f"This is unwanted, in {name}.")
    memory.play(poison_text="poison", poison_is_named=False, reject_text="unwanted")
    assert memsync("run", "docs.yaml").exit_code == 3
    return docs


def test_only_the_culprits_become_dead_letters(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A batch is refused as a whole for one bad record: the other 99 must not pay for it."""
    docs.write_documents(400)
    for name in GIVEN_UP:
        docs.write(name, f"This is {'poison' if name in KILLERS else 'unwanted'}, in {name}.")
    memory.play(poison_text="poison", reject_text="unwanted")

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.source["status"]) == (3, "dead_letters")
    assert (done.documents["seen"], done.documents["added"], done.documents["failed"]) == (400, 396, 4)
    assert (done.records["created"], done.records["dead_lettered"], done.records["pending"]) == (396, 4, 0)
    assert sorted(letter["document_id"] for letter in docs.dead_letters()) == GIVEN_UP
    assert len(memory.records()) == 396
    assert memory.holds_everything_once()
    assert "4 dead letters outstanding" in done.stdout


def test_a_dead_letter_tells_everything_and_is_its_owners_alone(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A person must understand it years later, and it holds the text of a document."""
    for document in ("killer.md", "refused.md", "good.md"):
        docs.write(document, f"This is {WORDS[document]}, in {document}.")
    memory.play(poison_text="poison", reject_text="unwanted")

    run = memsync("run", "docs.yaml")
    listed = memsync("dead-letters", "docs.yaml")
    as_json = memsync("dead-letters", "docs.yaml", "--json")

    assert (run.exit_code, listed.exit_code, as_json.exit_code) == (3, 0, 0)
    letters = {letter["document_id"]: letter for letter in docs.dead_letters()}
    assert sorted(letters) == ["killer.md", "refused.md"]
    assert sorted(as_json.report["dead_letters"], key=str) == sorted(letters.values(), key=str)
    assert all(document in listed.stdout for document in letters)
    assert "memsync replay docs.yaml" in listed.stdout
    assert stat.S_IMODE((docs.state / "dead-letters.jsonl").stat().st_mode) == 0o600
    assert stat.S_IMODE(docs.state.stat().st_mode) == 0o700
    for document, letter in letters.items():
        assert letter.keys() >= MEMBERS
        assert letter["error"].keys() >= {"stage", "code", "message"}
        assert (letter["source"], letter["operation"], letter["error"]["stage"]) == ("docs", "create", "write")
        assert letter["attempts"] == 1
        assert letter["record"]["content"]["text"].endswith(f"in {document}.")
        assert letter["record"].keys() >= {"requestIdentifier", "namespaces", "content", "timestamp"}
        assert letter["client_token"]


def test_a_sync_does_not_resend_what_was_given_up_on(
    with_four_dead_letters: Folder, memory: Memory, memsync: Memsync
) -> None:
    """The service would refuse it every hour; but it stays counted until somebody sees to it."""
    docs, requests, creates = with_four_dead_letters, memory.requests, memory.writes("BatchCreateMemoryRecords")
    letters = docs.dead_letters()

    idle = memsync("run", "docs.yaml", "--json")
    requests_of_idle = memory.requests - requests
    docs.write("000.md", "Something else.")
    busy = memsync("run", "docs.yaml", "--json")

    for run in (idle, busy):
        assert (run.exit_code, run.documents["failed"], run.records["dead_lettered"]) == (3, 4, 4)
    assert (idle.documents["unchanged"], requests_of_idle) == (396, 0)
    assert (busy.touched(), memory.writes("BatchUpdateMemoryRecords")) == (1, 1)
    assert memory.writes("BatchCreateMemoryRecords") == creates
    assert docs.dead_letters() == letters


def test_what_is_mended_in_the_source_is_stored_by_the_next_sync(
    with_four_dead_letters: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Its author has corrected the document: the letter speaks of a version that is no more."""
    docs = with_four_dead_letters
    for name in GIVEN_UP:
        docs.write(name, f"This is fine, in {name}.")

    run = memsync("run", "docs.yaml", "--json")
    replay = memsync("replay", "docs.yaml", "--json")

    assert (run.exit_code, run.records["created"], run.records["dead_lettered"]) == (0, 4, 0)
    assert (replay.exit_code, replay.touched()) == (0, 0)
    assert len(memory.records()) == 400
    assert memory.holds_everything_once()
    assert docs.dead_letters() == []


def test_what_is_mended_at_the_service_is_stored_by_a_replay(
    with_four_dead_letters: Folder, memory: Memory, memsync: Memsync
) -> None:
    """The documents were right all the time: sending them again is all that is needed, and once is enough."""
    docs = with_four_dead_letters
    memory.play()

    replays = [memsync("replay", "docs.yaml", "--json") for _ in range(5)]
    run = memsync("run", "docs.yaml", "--json")

    assert [done.exit_code for done in (*replays, run)] == [0] * 6
    assert [done.records["created"] for done in replays] == [4, 0, 0, 0, 0]
    assert len(memory.records()) == 400
    assert memory.holds_everything_once()
    assert docs.dead_letters() == []
    assert (run.documents["unchanged"], run.records["unchanged"], run.touched()) == (400, 400, 0)


def test_replays_in_vain_leave_one_letter(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A replay that fails again must not multiply letters or records; only the attempts add up."""
    docs.write_documents(3)
    docs.write("bad.md", "This is unwanted.")
    memory.play(reject_text="unwanted")
    memsync("run", "docs.yaml")

    replays = [memsync("replay", "docs.yaml", "--json") for _ in range(2)]

    assert {(done.exit_code, done.records["dead_lettered"], done.touched()) for done in replays} == {(3, 1, 0)}
    (letter,) = docs.dead_letters()
    assert letter["attempts"] == 3
    assert letter["first_failed_at"] < letter["last_failed_at"]
    assert len(memory.records()) == 3


def test_a_letter_that_a_newer_version_has_overtaken_is_not_sent(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A replay that sent the old text after the new one would put the memory back in time."""
    docs.write("page.md", "The old text, unwanted.")
    memory.play(reject_text="unwanted")
    memsync("run", "docs.yaml")
    memory.play()
    docs.write("page.md", "The new text.")

    done = memsync("replay", "docs.yaml", "--json")

    assert done.exit_code == 0
    assert memory.texts() == ["The new text."]
    assert docs.dead_letters() == []
    assert memsync("run", "docs.yaml", "--json").touched() == 0


def test_a_letter_whose_document_is_gone_is_dropped(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Nobody wants that record any more: it must neither be sent nor be complained about for ever."""
    docs.write_documents(3)
    docs.write("page.md", "This is unwanted.")
    memory.play(reject_text="unwanted")
    memsync("run", "docs.yaml")
    memory.play()
    docs.remove("page.md")

    replay = memsync("replay", "docs.yaml", "--json")
    run = memsync("run", "docs.yaml", "--json")

    assert replay.touched() == 0
    assert (run.exit_code, run.records["dead_lettered"]) == (0, 0)
    assert memory.documents() == ["000.md", "001.md", "002.md"]
    assert docs.dead_letters() == []


def test_an_update_that_is_refused_leaves_the_old_text_until_it_is_replayed(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Old but true at its time is better than absent: no document vanishes because it changed."""
    docs.write("page.md", "The old text.")
    docs.write("other.md", "Another page.")
    memsync("run", "docs.yaml")
    memory.play(reject_text="unwanted")
    docs.write("page.md", "The unwanted new text.")

    refused = memsync("run", "docs.yaml", "--json")
    texts_meanwhile = memory.texts_of("page.md")
    memory.play()
    replay = memsync("replay", "docs.yaml", "--json")

    assert (refused.exit_code, refused.documents["failed"]) == (3, 1)
    assert texts_meanwhile == ["The old text."]
    assert (replay.exit_code, memory.texts_of("page.md")) == (0, ["The unwanted new text."])


def test_a_document_that_cannot_be_parsed_is_a_dead_letter_and_keeps_its_records(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """An export that broke halfway must not take its rows from the agent."""
    docs.write("rows.jsonl", '{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n')
    memsync("run", "docs.yaml")
    docs.write("rows.jsonl", '{"id": 1, "text": "one"}\n{"id": 2, "te')

    broken = memsync("run", "docs.yaml", "--json")
    kept = memory.texts()
    docs.write("rows.jsonl", '{"id": 1, "text": "one"}\n{"id": 2, "text": "two!"}\n')
    mended = memsync("run", "docs.yaml", "--json")

    assert (broken.exit_code, broken.touched()) == (3, 0)
    assert kept == ["one", "two"]
    assert mended.exit_code == 0
    assert sorted(memory.texts()) == ["one", "two!"]


def test_dead_letters_go_where_the_settings_say(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Some keep them on another disk."""
    docs.configure(memory.url, dead_letters={"path": "given-up/letters.jsonl"})
    docs.write("page.md", "This is unwanted.")
    memory.play(reject_text="unwanted")

    done = memsync("run", "docs.yaml")

    file = docs.path / "given-up" / "letters.jsonl"
    assert done.exit_code == 3
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert '"page.md"' in file.read_text()
    assert memory.records() == []
