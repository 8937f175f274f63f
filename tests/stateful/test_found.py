"""What `test_commands.py` has found, each made small."""

from tests.stateful.user import User


def test_a_repair_does_not_say_that_all_is_well_if_its_run_was_held_back(user: User) -> None:
    """Where the ledger is right there is nothing to repair; the memory is not in line for that."""
    user.begin("in-sync")
    user.memsync("run")
    for name in list(user.files):
        user.remove(name)

    done = user.memsync("verify", "--repair")

    assert done.exit_code == 1
    assert done.report["sources"][0]["is_repaired"] is False
    assert len(user.ours()) == 5
