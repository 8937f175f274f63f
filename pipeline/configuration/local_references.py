"""What `${env:NAME}` and `${file:PATH}` stand for: this machine knows, without asking anybody."""

import os
from pathlib import Path
from stat import S_ISREG

from pipeline.references import Reference

BYTES_MAX = 64 * 1024  # of a file with a secret


def local_value(reference: Reference, base_folder: Path) -> str:
    """What `reference` stands for. A line end that ends a file is not part of it.

    Raises:
        LookupError: it stands for nothing; the message says why, and what to do.
    """
    return _variable(reference.name) if reference.scheme == "env" else _content(base_folder, reference.name)


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        state = "not set" if value is None else "empty"
        raise LookupError(f"the environment variable {name} is {state}; set it")
    return value


def _content(base_folder: Path, name: str) -> str:
    try:
        path = base_folder / Path(name).expanduser()
        if not S_ISREG(path.stat().st_mode):  # a pipe would be empty when it is read once more, or never end
            raise LookupError(f"{name} is no regular file; name one that holds the value")
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such home folder, or no such name"
        raise LookupError(f"the file {name} cannot be read: {reason}; make it, or correct its name") from error
    if len(content) > BYTES_MAX:
        raise LookupError(f"the file {name} has more than {BYTES_MAX:,} bytes; name one that holds the value alone")
    try:
        value = content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise LookupError(f"the file {name} is not in UTF-8; write it so") from None
    if not value:
        raise LookupError(f"the file {name} is empty; write the value into it")
    return value
