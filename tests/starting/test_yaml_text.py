"""What `memsync init` writes is read back as it was meant, whatever it holds."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import BUILT_IN
from pipeline.configuration.loading import source_from
from pipeline.configuration.yaml_source import parse_yaml
from pipeline.reporting.text import printable
from pipeline.starting.addresses import place_of
from pipeline.starting.draft import Draft, Setting, source_setting, tree, value_at, with_settings
from pipeline.starting.memories import in_aws, local_memory
from pipeline.starting.proposals import common_settings
from pipeline.starting.yaml_text import yaml_text

MEMORY_ID = "handbook-a1B2c3D4e5"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALARS = TEXTS | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.none() | st.floats(allow_nan=False)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)
# Words that are something else to one version of YAML or another.
TRICKY = ["no", "1e3", "0o7", "12:30", "~", "null", "true", "", " a", "a ", "# a", "a # b", "a: b", "- a", "\n", "*.md"]

# For each type, what a source of it needs; `rest` and `singer` hold lists and mappings of their own.
EXAMPLES: dict[str, dict[str, Any]] = {
    "feed": {"urls": ["https://example.com/feed"], "keep": "listed"},
    "filesystem": {"path": "no", "include": ["*.md", "!*"], "exclude": ["a # b"]},
    "fsspec": {"url": "sftp://me@example.com/docs", "option_variables": {"password": "PASSWORD"}},
    "git": {"url": "git@example.com:team/handbook.git", "ref": "1e3"},
    "imap": {"host": "imap.example.com", "user": "me", "password_variable": "PASSWORD", "port": 993},
    "rest": {
        "base_url": "https://example.com/api/",
        "pagination": {"type": "cursor", "param": "cursor", "path": "next"},
        "resources": [{"name": "pages", "path": "pages", "text": ["title", "body"], "params": {"open": "1"}}],
        "http": {"requests_per_s": 2.5},
    },
    "s3": {"bucket": "handbook", "prefixes": ["docs/", "wiki/"]},
    "singer": {
        "command": ["tap-wiki", "-v"],
        "config": {"since": "2024-01-01"},
        "streams": {"pages": {"id": ["a", "b"]}},
    },
    "sql": {"url": "sqlite:///wiki.db", "table": "pages", "id": "id", "text": ["title", "body"]},
    "web": {"sitemaps": ["https://example.com/sitemap.xml"], "prefixes": ["https://example.com/docs/"]},
}


def draft_of(source: dict[str, Any], *settings: Setting) -> Draft:
    named = (Setting(("name",), "docs", "its identity"),)
    return with_settings(named, [*(source_setting(key, value, "a reason") for key, value in source.items()), *settings])


def read(text: str) -> dict[str, Any]:
    return parse_yaml(text.encode(), Path("docs.yaml")).values


def test_there_is_an_example_of_every_type() -> None:
    """A new connector must be set up by `init`, too."""
    assert EXAMPLES.keys() == BUILT_IN.keys()


@pytest.mark.parametrize("type_name", EXAMPLES)
@pytest.mark.parametrize("memory", ["local", "aws"])
def test_a_file_gives_exactly_the_settings_that_were_proposed(type_name: str, memory: str) -> None:
    """What was shown and what is done would be two things."""
    destination = local_memory("docs", None) if memory == "local" else in_aws(MEMORY_ID, "eu-west-1", None)
    draft = draft_of({"type": type_name, **EXAMPLES[type_name]}, *destination)
    draft = with_settings(draft, common_settings(draft, "docs", None))

    settings = source_from(yaml_text(draft), Path("docs.yaml"))

    assert read(yaml_text(draft)) == tree(draft)
    expected = type(settings.source).model_validate({"type": type_name, **EXAMPLES[type_name]})
    assert settings.source == expected
    assert settings.name == "docs"
    assert settings.record.namespace == "/docs/{source}/"
    assert settings.schedule == value_at(draft, "schedule")
    assert settings.destination.endpoint_url == ("local" if memory == "local" else None)
    assert memory == "local" or settings.destination.memory_id == MEMORY_ID


@given(VALUES, TEXTS)
def test_any_value_is_read_back_and_no_reason_ends_its_comment(value: Any, why: str) -> None:
    """Paths, patterns and names of columns can be anything; what they are called must not become a setting."""
    draft = (Setting(("source", "a"), value, why), Setting(("source", "b", "c"), value, why, below=(why,)))

    assert read(yaml_text(draft)) == {"source": {"a": value, "b": {"c": value}}}


@pytest.mark.parametrize("text", TRICKY)
def test_words_stay_words(text: str) -> None:
    """`no` for Norway is the best known of them."""
    assert read(yaml_text((Setting(("source", text or "empty"), [text, {text: text}]),))) == {
        "source": {text or "empty": [text, {text: text}]}
    }


@given(TEXTS)
def test_the_file_holds_nothing_that_hides_or_reorders_text(text: str) -> None:
    """A name of a file, seen in an editor or a review, must be what it is."""
    written = yaml_text((Setting(("source", "path"), text, text),))

    assert all(printable(line) == line for line in written.split("\n"))


def test_a_short_line_has_its_reason_beside_it_and_a_long_one_above() -> None:
    """The file is read by people first."""
    draft = draft_of({"type": "filesystem", "path": "docs", "include": [f"*.{name}" for name in "abcdefghijkl"]})

    lines = yaml_text(draft).splitlines()

    assert "name: docs  # its identity" in lines
    assert "  path: docs        # a reason" in lines
    assert lines[lines.index("  # A reason") + 1].startswith("  include: [")
    assert max(map(len, lines)) <= 120


def test_what_is_set_by_hand_replaces_what_was_proposed_and_nothing_beside_it() -> None:
    """`--set` has the last word, above and below what it names."""
    draft = draft_of({"http": {"timeout_s": 1, "connections": 2}}, Setting(("record", "metadata", "title"), "{title}"))

    changed = with_settings(
        draft, [Setting(("source", "http", "timeout_s"), 5), Setting(("record", "metadata"), {"team": "a"})]
    )

    assert tree(changed)["source"]["http"] == {"timeout_s": 5, "connections": 2}
    assert tree(changed)["record"] == {"metadata": {"team": "a"}}


def test_an_address_that_was_recognised_makes_a_file(tmp_path: Path) -> None:
    """The two halves fit."""
    place = place_of("s3://handbook/docs/", tmp_path)
    assert place is not None

    draft = with_settings(draft_of({"type": place.type}), [*place.settings, *local_memory("docs", None)])

    assert source_from(yaml_text(draft), tmp_path / "docs.yaml").source.model_dump()["prefixes"] == ("docs/",)
