"""Which of several errors tells what happened."""

import pytest
from anyio import BrokenResourceError

from pipeline.errors import SourceError, first_error, ungrouped


def test_what_was_raised_on_purpose_says_more_than_what_it_led_to() -> None:
    """A stage that fails closes its streams, and who sends into them fails, too."""
    gone = SourceError("It is gone.")
    group = ExceptionGroup("", [BrokenResourceError(), ExceptionGroup("", [ValueError(), gone])])

    assert first_error(group) is gone
    with pytest.raises(SourceError), ungrouped():
        raise group


def test_of_what_was_not_meant_the_first_is_told() -> None:
    first = ValueError()

    assert first_error(ExceptionGroup("", [ExceptionGroup("", [first]), KeyError()])) is first
    assert first_error(first) is first
