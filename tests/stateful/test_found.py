"""What `test_commands.py` has found, each made small."""

import shutil

import pytest

from tests.state.schema_1 import LONG_NAME
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


def test_giving_up_a_batch_does_not_write_anew_what_it_has_stored(user: User) -> None:
    """Records of an older version may not say of which document they are; the batch that is given up knew that."""
    user.begin("outbox")

    done = user.memsync("verify", "--repair")

    assert not user.keys_held_twice()
    assert done.exit_code == 0, done.stdout


def test_a_record_that_says_whose_it_is_by_now_is_that_documents(user: User) -> None:
    """The ledger that comes back is from before it said so; meanwhile its document has been removed."""
    user.begin("in-sync")
    shutil.rmtree(user.state)
    user.memsync("recover")
    backup = user.folder.with_name("backup")
    shutil.copytree(user.state, backup)
    user.memsync("run")
    user.remove(LONG_NAME)
    shutil.rmtree(user.state)
    backup.rename(user.state)

    done = user.memsync("run")

    assert done.exit_code == 0
    assert LONG_NAME not in user.held()


@pytest.mark.xfail(strict=True, reason="moving a folder changes nothing in it by which it could be told")
def test_a_state_that_was_moved_away_and_back_is_not_trusted(user: User) -> None:
    """Somebody builds a ledger anew, and finds that he wants the old one back."""
    user.begin(None)
    user.write("a.md", "One.")
    user.memsync("run")
    away = user.state.rename(user.folder.with_name("away"))
    user.memsync("recover")
    user.write("b.md", "Two.")
    user.memsync("run")
    shutil.rmtree(user.state)
    away.rename(user.state)

    user.memsync("run")

    assert not user.keys_held_twice()
