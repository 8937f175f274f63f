"""Whatever lies in a folder: nothing of it stops a run, drives a terminal or slips into a log."""

import os

from .conftest import SECRET_CANARY, TEXT_CANARY, Folder, Memory, Memsync


def test_a_file_that_is_too_large_is_a_dead_letter_and_the_others_go_through(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A forgotten dump of 200 MB must not fill the memory of the process, nor keep the rest from the agent."""
    docs.write_documents(3)
    with docs.write("dump.txt", "").open("wb") as dump:
        dump.truncate(200 * 1024 * 1024)

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.documents["seen"], done.documents["failed"]) == (3, 4, 1)
    (letter,) = docs.dead_letters()
    assert (letter["document_id"], letter["error"]["code"]) == ("dump.txt", "too_large")
    assert "source.max_bytes" in letter["error"]["message"]
    assert memory.documents() == ["000.md", "001.md", "002.md"]


def test_texts_without_any_structure_are_stored_whole(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """There is no heading, no sentence and no word to cut at, and many chunks are equal."""
    docs.write("lines.txt", "x\n" * 10_000)
    docs.write("line.txt", "y" * 50_000)

    first = memsync("run", "docs.yaml", "--json")
    requests = memory.requests
    second = memsync("run", "docs.yaml", "--json")

    assert first.exit_code == 0
    assert memory.holds_everything_once()
    assert "".join(memory.texts_of("lines.txt")).count("x") == 10_000
    assert "".join(memory.texts_of("line.txt")) == "y" * 50_000
    assert max(len(text) for text in memory.texts()) <= 4000
    assert (second.documents["unchanged"], memory.requests) == (2, requests)


def test_any_name_is_stored_named_and_removed_again(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A name is what somebody typed, or a broken archive left; the file system takes almost anything."""
    names = [
        "🦊" * 63 + ".md",  # 255 bytes: the longest that Linux allows
        "two\nlines.md",
        "\x1b[31mred\x1b[0m.md",
        os.fsdecode(b"not \xff utf-8.md"),
        "100%.md",
        "'quoted' \"twice\" $HOME `id`.md",
        "-rf.md",
        "{source}.md",
    ]
    for name in names:
        docs.write(name, f"This is {TEXT_CANARY}.")

    first = memsync("run", "docs.yaml", "--json")
    requests = memory.requests
    second = memsync("run", "docs.yaml", "--json")
    docs.remove(*names[:-1])
    third = memsync("run", "docs.yaml", "--json")

    assert (first.exit_code, first.documents["added"], first.records["created"]) == (0, 8, 8)
    assert (second.documents["unchanged"], second.source["requests"]["sent"]) == (8, 0)
    assert (third.exit_code, third.records["deleted"]) == (0, 7)
    assert requests >= 1
    assert memory.documents() == ["{source}.md"]


def test_a_dead_letter_of_any_name_can_be_shown_and_replayed(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Names stand in messages and lists: there they must neither drive a terminal nor fake a line."""
    names = ["two\nlines.md", "\x1b[2Jcleared.md", os.fsdecode(b"not \xff utf-8.md"), "🦊" * 63 + ".md"]
    for name in names:
        docs.write(name, f"This is unwanted {TEXT_CANARY}.")
    memory.play(reject_text="unwanted")

    run = memsync("run", "docs.yaml", "--json")
    listed = memsync("dead-letters", "docs.yaml")
    memory.play()
    replay = memsync("replay", "docs.yaml", "--json")

    assert (run.exit_code, run.records["dead_lettered"]) == (3, 4)
    assert "two\\nlines.md" in listed.stdout
    assert (replay.exit_code, replay.records["created"]) == (0, 4)
    assert len(memory.documents()) == 4


def test_binary_files_are_left_out_and_counted_and_empty_ones_have_nothing_to_say(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A thousand pictures in a wiki are no thousand dead letters."""
    docs.write_documents(1)
    docs.write("picture.png", "not looked at")
    (docs.documents / "blob").write_bytes(bytes(range(256)) * 100)
    docs.write("empty.md", "")
    docs.write("blank.txt", " \n\t\n")

    first = memsync("run", "docs.yaml", "--json")
    requests = memory.requests
    second = memsync("run", "docs.yaml", "--json")

    assert first.exit_code == 0
    assert first.documents["skipped"]["unsupported type .png"] == 1
    assert sum(first.documents["skipped"].values()) == 2
    assert "2 on purpose" in first.stdout
    assert first.documents["seen"] == 3
    assert second.documents["skipped"] == first.documents["skipped"]
    assert (second.source["status"], memory.requests) == ("in_sync", requests)
    assert memory.documents() == ["000.md"]


def test_links_that_lead_out_or_round_in_circles_are_not_followed(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A link in a shared folder must not publish /etc, and a circle must not keep a run for ever."""
    (docs.path / "private").mkdir()
    (docs.path / "private" / "diary.md").write_text("Nobody should read this.")
    docs.write("page.md")
    (docs.documents / "out").symlink_to(docs.path / "private")
    (docs.documents / "diary.md").symlink_to(docs.path / "private" / "diary.md")
    (docs.documents / "circle").symlink_to(docs.documents)
    (docs.documents / "self").symlink_to("self")
    (docs.documents / "broken").symlink_to("nowhere")
    os.mkfifo(docs.documents / "pipe")

    done = memsync("run", "docs.yaml", "--json")

    assert done.exit_code == 0
    assert memory.documents() == ["page.md"]
    assert sum(done.documents["skipped"].values()) == 6


def test_neither_texts_nor_secrets_are_told_whatever_fails(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Logs are sent to places that the documents must never reach. `check_laws` looks at every output."""
    docs.write("broken.jsonl", f'{{"text": "{TEXT_CANARY}')
    docs.write("list.jsonl", f'["{TEXT_CANARY}"]\n')
    docs.write("table.csv", f'id,text\n1,"{TEXT_CANARY}\n')
    docs.write("page.html", f"<html><body><p>{TEXT_CANARY} <script>{TEXT_CANARY}")
    docs.write("latin.txt", "plain").write_bytes(f"Müller {TEXT_CANARY}".encode("latin-1"))
    docs.write("poison.md", f"poison {TEXT_CANARY}")
    docs.write("unwanted.md", f"unwanted {TEXT_CANARY}")
    docs.write_documents(5)
    script = ("drop_after_write", "error_before_write", "throttle")
    memory.play(script=script, poison_text="poison", reject_text="unwanted")

    run = memsync("run", "docs.yaml", "--json")
    memory.play(script=("ListMemoryRecords:access_denied",))
    others = [memsync(command, "docs.yaml") for command in ("dead-letters", "verify", "replay")]

    assert run.exit_code == 3
    assert {letter["document_id"] for letter in docs.dead_letters()} >= {"broken.jsonl", "list.jsonl"}
    assert [done.exit_code for done in others] == [0, 1, 3]
    for file in docs.path.rglob("*"):
        assert file.is_dir() or SECRET_CANARY.encode() not in file.read_bytes()
