"""Settings that were read can be written out and read again: they mean the same, and so do the records."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.configuration.loading import load_sources
from pipeline.configuration.settings import SourceSettings, recipe

words = st.text("abcäß日 .-_'\":#{}[]&*!|>%@`,?~\\", min_size=1, max_size=12)
# YAML has a meaning of its own for these; as texts they must stay texts.
tricky = st.sampled_from(
    ["no", "true", "null", "~", "1", "1.0", "0x1f", "1e3", "2024-05-06", "- a", "a: b", " a", "a "]
)
plain = (words | tricky).filter(lambda text: "{" not in text and "}" not in text)
seconds = st.floats(1, 900)

sources = st.fixed_dictionaries(
    {"type": st.just("filesystem"), "path": st.text("abcä /._-", min_size=1, max_size=12).map(lambda name: f"x{name}")},
    optional={
        "include": st.lists(st.sampled_from(["**/*.md", "*.html", "docs/"]), min_size=1, max_size=3),
        "hidden": st.booleans(),
        "follow_symlinks": st.booleans(),
    },
)
destinations = st.fixed_dictionaries(
    {"type": st.just("agentcore"), "memory_id": st.just("handbook-a1B2c3D4e5")},
    optional={
        "region": st.sampled_from(["us-east-1", "eu-west-2"]) | st.none(),
        "profile": plain | st.none(),
        "read_timeout_s": seconds,
        "settle_s": seconds | st.none(),
        "token_trust_s": seconds | st.none(),
    },
)
optional = {
    "chunking": st.fixed_dictionaries(
        {}, optional={"max_chars": st.integers(200, 16_000), "heading_path": st.booleans()}
    ),
    "record": st.fixed_dictionaries(
        {},
        optional={
            "namespace": st.sampled_from(["/docs/{source}/", "/{folder}/{name}/", "/a/"]),
            "metadata": st.dictionaries(
                st.text("abc._", min_size=1, max_size=6),
                plain | st.floats(-1e6, 1e6) | st.booleans() | st.lists(plain, min_size=1, max_size=3),
                max_size=4,
            ),
        },
    ),
    "writers": st.fixed_dictionaries({}, optional={"concurrency": st.integers(1, 256), "linger_s": st.floats(0.1, 5)}),
    "deletes": st.fixed_dictionaries({}, optional={"enabled": st.booleans(), "max_fraction": st.floats(0, 1)}),
    "schedule": st.sampled_from(["*/30 * * * *", "0 4 * * 1-5", "0 0 1 1 *"]) | st.none(),
}


def load(file: Path, content: dict[str, Any]) -> SourceSettings:
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")  # which is YAML as well
    (settings,) = load_sources([file])
    return settings


@given(content=st.fixed_dictionaries({"source": sources, "destination": destinations}, optional=optional))
def test_settings_come_back_from_the_file_that_they_are_written_to(content: dict[str, Any]) -> None:
    """Files are also written by programs; what they mean must not depend on how a value is put into YAML."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "docs.yaml")
        settings = load(file, content)
        written = settings.model_dump(mode="json", warnings=False)

        again = load(file, written)

    assert again == settings
    assert recipe(again) == recipe(settings)
    for section, members in content.items():
        for name, value in members.items() if isinstance(members, dict) else ():
            assert name == "path" or written[section][name] == value
