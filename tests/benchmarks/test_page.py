from tests.benchmarks import page
from tests.benchmarks.__main__ import BENCHMARKS
from tests.benchmarks.against_peers import CHANGED, FIRST, PEERS, SCRIPTS, UNCHANGED
from tests.benchmarks.figures import Figure, Measured, Speed
from tests.benchmarks.page import render
from tests.benchmarks.results import Result, Results

MACHINE = {"processor": "Example", "cores": "2"}


def rendered(**by_benchmark: Measured) -> str:
    return render(Results({name: Result("2026-11-27", MACHINE, said) for name, said in by_benchmark.items()}))


def test_a_figure_is_shown_beside_its_goal() -> None:
    shown = rendered(
        client=Measured([Figure("CPU", [0.2, 0.1, 0.3], 0.25), Figure("speed", [1.0], 1.9, is_least=True)])
    )

    assert "| CPU | 0.20 | 0.10 to 0.30 | ≤ 0.25 | yes |" in shown
    assert "| speed | 1.00 | 1.00 to 1.00 | ≥ 1.9 | **no** |" in shown


def test_what_has_no_goal_is_shown_without_one() -> None:
    assert "| memory | 0.50 | 0.50 to 0.50 |  |  |" in rendered(client=Measured([Figure("memory", [0.5], None)]))


def test_each_result_says_where_and_when_it_was_measured() -> None:
    """Partial runs leave results of several days, and perhaps machines, beside each other."""
    shown = rendered(client=Measured([Figure("CPU", [0.2, 0.1, 0.3], 0.25)]))

    assert "2026-11-27, 3 rounds: processor Example, cores 2." in shown


def test_only_what_was_measured_has_a_section() -> None:
    shown = rendered(client=Measured([Figure("CPU", [0.2], 0.25)]))

    assert "## The client" in shown
    assert "## The command" not in shown


def test_speeds_are_shown_by_program() -> None:
    speeds = [
        Speed("memsync", run, [documents_per_second, documents_per_second], [80.0])
        for run, documents_per_second in ((FIRST, 1000.0), (UNCHANGED, 20_000.0), (CHANGED, 9000.0))
    ]

    shown = rendered(peers=Measured([Figure("speed", [1.0], None)], speeds))

    assert "| memsync | 1,000 | 20,000 | 9,000 | 80 MB |" in shown


def test_the_page_says_what_each_peer_does_and_does_not_do() -> None:
    """A ratio alone would be unfair to those who do more, and to us beside those who do less."""
    shown = rendered(peers=Measured([Figure("speed", [1.0], None)]))

    for peer in PEERS:
        assert f"**{peer.name}**" in shown
        assert "Does not:" in peer.description


def test_every_benchmark_has_a_title() -> None:
    assert page.TITLES.keys() == BENCHMARKS.keys()


def test_every_peer_has_its_packages_pinned() -> None:
    """Versions are on the page: they must be those that another run would have."""
    pinned = {line.partition("==")[0] for line in (SCRIPTS / "requirements.txt").read_text("utf-8").splitlines()}

    assert {package for peer in PEERS for package in peer.packages} <= pinned
