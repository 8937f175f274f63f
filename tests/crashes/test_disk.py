"""The model of a disk itself: what it keeps, what it may lose, and what is read from a trace."""

import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.crashes.disk import Disk
from tests.crashes.trace import Cut, Event, Made, Removed, Renamed, Sent, Synced, TraceReader, Written

ROOT = Path("/home/user")
FILE, FOLDER = ROOT / "state/file", ROOT / "state"
KEPT: Mapping[Path, bytes | None] = {Path("state/file"): b"old"}


def left_by(events: Iterable[Event], before: Mapping[Path, bytes | None] = KEPT) -> set[bytes | None]:
    """All that a power cut may leave of the file; None: its name is gone."""
    disk = Disk.holding(ROOT, before)
    for event in events:
        disk.happen(event)
    rng = random.Random(1)
    images = [disk.after_power_cut(luck, rng) for luck in ("all", "none", *["chance"] * 200)]  # type: ignore[arg-type]
    return {image.get(Path("state/file")) for image in images}


def test_what_was_synced_stays() -> None:
    """Else a disk would be of no use."""
    assert left_by([Written(FILE, 0, b"new"), Synced(FILE)]) == {b"new"}


def test_a_write_that_was_not_synced_may_be_kept_or_lost() -> None:
    """The disk was free to write it, and not obliged to."""
    assert left_by([Written(FILE, 0, b"new")]) == {b"old", b"new"}


def test_of_two_writes_only_the_later_may_be_kept() -> None:
    """A disk writes in whatever order it likes."""
    assert b"oldnew" in left_by([Written(FILE, 3, b"more"), Cut(FILE, 3), Written(FILE, 3, b"new")])
    assert left_by([Written(FILE, 0, b"A"), Written(FILE, 2, b"C")]) == {b"old", b"Ald", b"olC", b"AlC"}


def test_a_write_may_be_torn_between_sectors_but_not_within() -> None:
    """Of two sectors either may have been reached."""
    before = {Path("state/file"): b"." * 1024}

    left = left_by([Written(FILE, 500, b"x" * 500)], before)

    untouched, first, second = b"." * 1024, b"." * 500 + b"x" * 12 + b"." * 512, b"." * 512 + b"x" * 488 + b"." * 24
    both = b"." * 500 + b"x" * 500 + b"." * 24
    assert left == {untouched, first, second, both}


def test_a_new_name_may_be_lost_until_its_folder_was_synced() -> None:
    """Syncing a file says nothing of its name."""
    new: list[Event] = [Made(FILE), Written(FILE, 0, b"new"), Synced(FILE)]

    assert left_by(new, {Path("state"): None}) == {b"new", None}
    assert left_by([*new, Synced(FOLDER)], {Path("state"): None}) == {b"new"}


def test_a_folder_may_be_lost_with_all_that_is_in_it() -> None:
    """Its own name stands in the folder above."""
    new: list[Event] = [Made(FOLDER, is_folder=True), Made(FILE), Synced(FILE), Synced(FOLDER)]

    assert left_by(new, {}) == {b"", None}
    assert left_by([*new, Synced(ROOT)], {}) == {b""}


def test_a_file_that_replaces_another_leaves_one_of_the_two() -> None:
    """That is what renaming is for; whether the new one is whole depends on its own sync."""
    new = FILE.with_name("new")
    replaced: list[Event] = [Made(new), Written(new, 0, b"new"), Synced(new), Renamed(new, FILE)]

    assert left_by(replaced) == {b"old", b"new"}
    assert left_by([event for event in replaced if event != Synced(new)]) == {b"old", b"new", b""}


def test_a_removed_file_may_come_back() -> None:
    """Until the folder was synced."""
    assert left_by([Removed(FILE)]) == {b"old", None}
    assert left_by([Removed(FILE), Synced(FOLDER)]) == {None}


def test_a_trace_is_read_as_what_happened_to_the_files_and_what_was_sent() -> None:
    """A call counts once it has returned, whatever other threads did meanwhile; failed ones do not count."""
    log = f"""\
7 openat(AT_FDCWD<{hexadecimal("/")}>, "{hexadecimal(FILE)}", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 9<{hexadecimal(FILE)}>
7 pwrite64(9<{hexadecimal(FILE)}>, "{hexadecimal("abc")}", 3, 32 <unfinished ...>
8 fsync(10<{hexadecimal(FOLDER)}>) = 0
7 <... pwrite64 resumed>)          = 3
7 fdatasync(9<{hexadecimal(FILE)}>) = -1 EIO (Input/output error)
7 write(1<{hexadecimal("/dev/null")}>, "{hexadecimal("other")}", 5) = 5
9 openat(AT_FDCWD<{hexadecimal("/")}>, "{hexadecimal(FILE)}", O_WRONLY|O_APPEND) = 11<{hexadecimal(FILE)}>
9 write(11<{hexadecimal(FILE)}>, "{hexadecimal("de")}", 2) = 2
9 sendto(12<{hexadecimal("socket:[1]")}>, "{hexadecimal("POST")}", 4, 0, NULL, 0) = 4
9 rename("{hexadecimal(FILE)}", "{hexadecimal(FOLDER / "other")}") = 0
"""

    events = list(TraceReader(ROOT, {}).events(log.splitlines()))

    assert events == [
        Made(FILE),
        Synced(FOLDER),
        Written(FILE, 32, b"abc"),
        Written(FILE, 35, b"de"),
        Sent(b"POST"),
        Renamed(FILE, FOLDER / "other"),
    ]


def hexadecimal(text: str | Path) -> str:
    return "".join(f"\\x{byte:02x}" for byte in str(text).encode())
