"""The planted bugs themselves: that each can be planted, and is a bug of a program that still runs."""

import ast
import shutil
from pathlib import Path

import pytest

from tests.mutants.planted import MUTANTS, Mutant

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_bug_can_be_planted(mutant: Mutant, tmp_path: Path) -> None:
    """A change of the code that moves the place away would disarm it in silence."""
    copy = tmp_path / mutant.file
    copy.parent.mkdir(parents=True)
    shutil.copy(PROJECT / mutant.file, copy)

    mutant.plant(tmp_path)

    planted = ast.parse(copy.read_text())
    assert ast.dump(planted) != ast.dump(ast.parse((PROJECT / mutant.file).read_text()))


def test_each_bug_has_a_name_of_its_own() -> None:
    """The table names what killed what."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
