"""A few power cuts of real runs; `make powerloss` has thousands. Without strace no run can be recorded."""

import random

import pytest

from tests.crashes.power_cuts import RECORDED, Recording, Tried, recorded, try_images, weakened
from tests.crashes.rehearsal import STRACE

IMAGES = 300
CONTROL_IMAGES = 150

pytestmark = pytest.mark.skipif(STRACE is None, reason="strace is not installed: power cuts are NOT tested")


@pytest.fixture(scope="module")
def first_sync() -> Recording:
    """A first sync, some records of which were refused for good and some for now."""
    return recorded(RECORDED["sync with refusals"])


def test_a_power_cut_loses_nothing_that_was_done(first_sync: Recording) -> None:
    """Whatever it leaves of the files opens, and says what was said before, or one step more."""
    done = try_images(first_sync, IMAGES, random.Random(1))

    assert not done.failures
    assert done.images == IMAGES
    assert done.requests


def test_a_power_cut_during_an_upgrade_loses_nothing() -> None:
    """The state is of the old schema or of the new one, and if it is of the new one, the copy is whole."""
    assert not try_images(recorded(RECORDED["upgrade"]), IMAGES, random.Random(1)).failures


def test_a_run_that_does_less_for_its_files_is_caught(first_sync: Recording) -> None:
    """Else the tests above could not fail."""
    blind = [name for name, recording in weakened(first_sync) if not tried(recording).failures]

    assert not blind


def test_a_state_that_is_less_than_fully_synchronous_is_caught() -> None:
    """SQLite loses transactions that it has acknowledged then."""
    assert tried(recorded(RECORDED["sync with refusals"], "NORMAL")).failures


def tried(recording: Recording) -> Tried:
    return try_images(recording, CONTROL_IMAGES, random.Random(1))
