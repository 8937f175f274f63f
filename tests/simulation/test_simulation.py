"""Some hundred histories of the real pipeline; `make simulate` plays ten thousand."""

import subprocess
import sys

import pytest

from tests.simulation.driver import run_seed
from tests.simulation.scenarios import SCENARIOS

BY_CHANCE = 240
IN_ONE_TEST = 20
DIRECTED = 12


@pytest.mark.parametrize("first", range(0, BY_CHANCE, IN_ONE_TEST))
def test_no_history_breaks_the_promise(first: int) -> None:
    """Whatever goes wrong, and wherever a run dies: nothing lost, nothing twice, nothing wrongly deleted."""
    for seed in range(first, first + IN_ONE_TEST):
        result = run_seed(seed)

        assert result.violations == [], f"again: python -m tests.simulation --seeds {seed}"


@pytest.mark.parametrize("scenario", sorted(set(SCENARIOS) - {"random"}))
def test_no_directed_history_breaks_the_promise(scenario: str) -> None:
    """What chance seldom does is done on purpose."""
    for seed in range(DIRECTED):
        result = run_seed(seed, scenario)

        assert result.violations == [], f"again: python -m tests.simulation --seeds {seed} --scenario {scenario}"


def test_the_same_seed_gives_the_same_history() -> None:
    """A failure that cannot be repeated cannot be understood."""
    for seed in range(5):
        assert run_seed(seed).trace == run_seed(seed).trace


def test_a_history_is_the_same_in_another_process() -> None:
    """So that the command that is printed for a failure shows that failure."""

    def played(hash_seed: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seeds", "3"],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        return done.stdout.splitlines()[-1]

    assert played("0") == played("0")
    assert played("0").startswith("seed 3: 0 violations, trace ")
