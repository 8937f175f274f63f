"""The recorder of power cuts itself: what it reads from a trace, and what it takes for durable."""

import random

from tests.crashes.powerloss import Image, Operation, parsed

STATE = "/home/user/.memsync/docs"


def hexadecimal(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def test_a_trace_is_read_as_what_happened_to_the_files() -> None:
    """Also a call that another thread's came in between of, and nothing of other files."""
    path, folder = hexadecimal(f"{STATE}/state.sqlite3-wal"), hexadecimal(STATE)
    log = "\n".join(
        [
            f'7 openat(AT_FDCWD<{hexadecimal("/")}>, "{path}", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 9<{path}>',
            f'7 pwrite64(9<{path}>, "{hexadecimal("abc")}", 3, 32 <unfinished ...>',
            f'8 write(1<{hexadecimal("/dev/null")}>, "{hexadecimal("other")}", 5) = 5',
            "7 <... pwrite64 resumed>) = 3",
            f"7 fdatasync(9<{path}>) = 0",
            f"7 fsync(10<{folder}>) = 0",
            f"7 fsync(10<{folder}>) = -1 EIO (Input/output error)",
        ]
    )

    assert parsed(log, STATE) == [
        Operation("create", "state.sqlite3-wal"),
        Operation("write", "state.sqlite3-wal", b"abc", 32),
        Operation("sync", "state.sqlite3-wal"),
        Operation("sync folder"),
    ]


def test_what_was_synced_is_on_the_disk_and_the_rest_may_be() -> None:
    """Both have to happen, or no image would show a fault."""
    operations = [
        Operation("create", "a"),
        Operation("write", "a", b"synced"),
        Operation("sync", "a"),
        Operation("sync folder"),
        Operation("write", "a", b"unsynced", 6),
        Operation("create", "b"),
        Operation("write", "b", b"new"),
        Operation("sync", "b"),
    ]

    images = [Image.after(operations, random.Random(seed)).files for seed in range(50)]

    assert {image["a"] for image in images} == {b"synced", b"syncedunsynced"}
    assert {image.get("b") for image in images} == {b"new", None}


def test_a_write_can_be_torn_between_two_sectors() -> None:
    """A disk promises no more than one sector at a time."""
    operations = [Operation("create", "a"), Operation("sync folder"), Operation("write", "a", bytes(range(256)) * 8)]

    sizes = {len(Image.after(operations, random.Random(seed)).files["a"]) for seed in range(100)}

    assert {0, 512, 1024, 2048} <= sizes
