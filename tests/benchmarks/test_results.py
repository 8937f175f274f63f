from pathlib import Path

from tests.benchmarks.figures import Figure, Measured, Speed
from tests.benchmarks.results import Result, Results

FIRST = Result(
    "2026-11-26",
    {"processor": "Example", "cores": "2"},
    Measured(
        [Figure("time", [1.5, 2.5], 2.0), Figure("speed", [3.0], None, is_least=True)],
        [Speed("memsync", "first sync", [1000.0], [80.5])],
    ),
)
SECOND = Result("2026-11-27", {"processor": "Example", "cores": "2"}, Measured([Figure("time", [1.0], 2.0)]))


def test_results_are_read_as_they_were_saved(tmp_path: Path) -> None:
    Results({"client": FIRST}).save(tmp_path / "performance.json")

    assert Results.load(tmp_path / "performance.json") == Results({"client": FIRST})


def test_without_a_file_there_are_no_results(tmp_path: Path) -> None:
    assert Results.load(tmp_path / "performance.json") == Results()


def test_noise_below_four_digits_is_not_kept(tmp_path: Path) -> None:
    """The file is reviewed as a change: digits that mean nothing would hide those that do."""
    file = tmp_path / "performance.json"
    Results({"client": Result("2026-11-26", {}, Measured([Figure("time", [1.23456789], None)]))}).save(file)

    (figure,) = Results.load(file).by_benchmark["client"].measured.figures
    assert figure.ratios == [1.235]


def test_a_benchmark_that_ran_again_replaces_its_own_result_alone() -> None:
    stored = Results({"client": FIRST, "quota": FIRST})

    replaced = stored.replaced({"quota": SECOND}, order=["client", "quota"])

    assert replaced == Results({"client": FIRST, "quota": SECOND})


def test_results_keep_the_order_of_the_benchmarks() -> None:
    stored = Results({"quota": FIRST})

    replaced = stored.replaced({"client": SECOND}, order=["client", "whole", "quota"])

    assert list(replaced.by_benchmark) == ["client", "quota"]


def test_a_benchmark_that_is_no_more_is_dropped() -> None:
    assert Results({"old": FIRST}).replaced({}, order=["client"]) == Results()
