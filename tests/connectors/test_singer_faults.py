"""Whatever a tap does, and at whichever of its lines: nothing that is there is deleted, and what was seen is stored."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectors.kit.contract import SpoiltAnswersContract
from connectors.singer.connector import SingerConnector

from .singer_taps import ScriptWorld, lives
from .spoilt_runs import ADDED, BEFORE, SpoiltSource, hold_through

FAULTS = (
    "killed",
    "exit 1",
    "garbage",
    "no message",
    "batch",
    "no number",
    "half",
    "huge",
    "invalid UTF-8",
    "silent",
    "no schema",
    "other key",
    "no id",
    "id twice",
)
LINES = {"FULL_TABLE": 16, "INCREMENTAL": 8}  # of a run: a schema, 10 rows or the 5 that are new, and states


@pytest.mark.parametrize("method", LINES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_no_fault_of_a_tap_deletes_what_is_there_or_keeps_out_what_was_seen(
    tmp_path: Path, fault: str, method: str
) -> None:
    """Wherever in a run it happens; and once the tap is well again, so is the memory."""
    for line in positions(fault, method):
        case = ScriptWorld(tmp_path / str(line))
        connector = case.connector(streams={"pages": {"text": "text", "replication_method": method}}, max_bytes=200_000)
        await hold_through(spoilt(case, connector, fault, line), (fault, line))
        assert len(case.calls) == 3
        if fault == "silent":
            assert not lives(int((case.folder / "child").read_text())), "what the tap started ends with it"
        await connector.aclose()


class TestSpoiltTap(SpoiltAnswersContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[ScriptWorld]:
        made = ScriptWorld(tmp_path / "tap", faults=("exit 1", "half", "no id"))
        yield made
        await made.aclose()


def positions(fault: str, method: str) -> range:
    """The lines at which a fault strikes: of the longer runs every second one, of silence, which takes long, a few."""
    if fault == "silent":
        return range(0, LINES[method], 5)
    return range(FAULTS.index(fault) % 2, LINES[method], 2) if method == "FULL_TABLE" else range(LINES[method])


def spoilt(case: ScriptWorld, connector: SingerConnector, fault: str, line: int) -> SpoiltSource:
    settings = connector._settings

    def arm() -> None:
        case.spoil(fault, line)
        if fault == "silent":
            connector._settings = settings.model_copy(update={"silence_s": 1.0})

    def heal() -> None:
        case.heal()
        connector._settings = settings

    return SpoiltSource(connector, case.put, arm, heal)


def test_the_faults_strike_within_a_run() -> None:
    """Or they would prove nothing."""
    assert len(ADDED) + len(BEFORE) == 10
    assert sum(len(positions(fault, method)) for fault in FAULTS for method in LINES) >= 200
