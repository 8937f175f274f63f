"""A user of memsync, whose commands start at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.state.schema_1 import MEMORY_ID
from tests.stateful.memory import open_memory
from tests.stateful.user import User
from tests.stateful.zygote import Zygote


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
def user(tmp_path: Path, zygote: Zygote) -> Iterator[User]:
    with open_memory(MEMORY_ID) as memory:
        yield User(tmp_path / "user", memory, zygote)
