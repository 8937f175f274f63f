"""Whatever git does, and when: no document that is there loses its records, and what was seen is stored.

Real runs of the pipeline between a repository and a memory, with each call of git in a run spoilt in each way.
"""

from pathlib import Path

import pytest

from .git_faults import FAULTS, install_faulty_git
from .git_world import GitWorld, without_configuration
from .spoilt_runs import BEFORE, SpoiltSource, hold_through

CALLS_DIRECTLY = 3  # what the ref means, the objects, and their sizes
CALLS_BY_A_MIRROR = 5  # a fetch, what it brought, tidying up, and as above


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    without_configuration(monkeypatch)
    monkeypatch.setattr("connectors.git.objects.ANSWER_S", 0.3)  # where more is announced than comes


DIRECTLY = [(False, str(call)) for call in range(1, CALLS_DIRECTLY + 1)]
BY_A_MIRROR = [(True, str(call)) for call in range(1, CALLS_BY_A_MIRROR + 1)]
FROM_THEN_ON = [(False, "2-"), (False, "3-"), (True, "1-"), (True, "2-"), (True, "3-"), (True, "4-"), (True, "5-")]


@pytest.mark.parametrize(("is_remote", "when"), DIRECTLY + BY_A_MIRROR + FROM_THEN_ON)
@pytest.mark.parametrize("fault", FAULTS)
async def test_no_git_that_fails_deletes_what_is_there_or_keeps_out_what_was_seen(
    tmp_path: Path, fault: str, is_remote: bool, when: str
) -> None:
    """At each of its calls in a run, or from then on; and once git is whole again, so is the memory."""
    world = GitWorld(tmp_path, is_remote)
    with pytest.MonkeyPatch.context() as patch:

        def arm() -> None:
            world.commit()
            install_faulty_git(world, patch, fault, when)

        def heal() -> None:
            patch.undo()

        def put(name: str, content: bytes) -> None:
            world.put(name, content)
            if name == BEFORE[-1]:
                world.commit()

        source = SpoiltSource(world.connect(), put, arm, heal)
        await hold_through(source, (fault, is_remote, when))
        await world.aclose()
