"""Names and digests: never two things under one name, and always in characters that the service takes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pipeline.identity import (
    METADATA_ESCAPE,
    NAMESPACE_ESCAPE,
    decode,
    digest_of,
    encode_metadata,
    encode_namespace_segment,
    record_digests,
    record_keys,
)
from pipeline.limits import service_limits
from pipeline.model import DocumentId, MetadataValue, RecordKey

ANY_TEXT = st.text(st.characters(), max_size=200)  # with lone surrogates, as names of files and JSON may hold them
SOUND_TEXT = st.text(max_size=200)
# Texts that look like what an encoder or a digest writes itself.
NAUGHTY_TEXT = st.text(st.sampled_from("=:-/0123456789ABCDEFabcdefé\U0001f600 \n\x00"), max_size=60)

LONGER_THAN_ANY_VALUE = 1_000_000


@dataclass(frozen=True)
class Encoding:
    """One way to write a value, with the escape that it uses and the longest value that it is used for."""

    encode: Callable[[str, int], str]
    escape: str
    characters_max: int

    def is_allowed(self, encoded: str) -> bool:
        """Whether the service takes `encoded` where such a value stands."""
        limits = service_limits()
        if self.escape == NAMESPACE_ESCAPE:
            return "/" not in encoded and limits.namespace.breach(f"/{encoded}/" if encoded else "/") is None
        assert limits.metadata_string.pattern is not None
        return limits.metadata_string.pattern.fullmatch(encoded) is not None


METADATA = Encoding(encode_metadata, METADATA_ESCAPE, service_limits().metadata_string.max)
NAMESPACE_SEGMENT = Encoding(encode_namespace_segment, NAMESPACE_ESCAPE, 255)

each_encoding = pytest.mark.parametrize("encoding", [METADATA, NAMESPACE_SEGMENT], ids=["metadata", "namespace"])


# ------------------------------------------------------------------------------------------------- digests


@given(st.lists(st.one_of(ANY_TEXT, NAUGHTY_TEXT)), st.lists(st.one_of(ANY_TEXT, NAUGHTY_TEXT)))
def test_different_parts_have_different_digests(some: list[str], others: list[str]) -> None:
    """Two records with one key would overwrite each other in the ledger."""
    assume(some != others)

    assert digest_of(*some) != digest_of(*others)


@given(st.one_of(ANY_TEXT, NAUGHTY_TEXT).filter(lambda text: len(text) > 1), st.data())
def test_where_one_part_ends_and_the_next_begins_counts(text: str, data: st.DataObject) -> None:
    """Parts that were merely joined would give document `ab` chunk `c` the key of document `a` chunk `bc`."""
    positions = st.integers(0, len(text))
    cut, other_cut = data.draw(positions), data.draw(positions)
    assume(cut != other_cut)

    assert digest_of(text[:cut], text[cut:]) != digest_of(text[:other_cut], text[other_cut:])


def test_a_part_that_looks_like_a_length_is_only_a_part() -> None:
    """A document can choose its own id, and must not choose another's key with it."""
    assert digest_of("a", "b") != digest_of("a1:b")
    assert digest_of("1:a") != digest_of("a")
    assert digest_of("") != digest_of()
    assert digest_of("", "") != digest_of("")


@given(ANY_TEXT)
def test_a_digest_can_be_a_request_identifier(text: str) -> None:
    """Keys are sent as they are."""
    digest = digest_of(text)

    assert re.fullmatch("[0-9a-f]{40}", digest)
    assert service_limits().request_identifier.breach(digest) is None


def test_a_digest_never_changes() -> None:
    """Ledgers of earlier versions are full of them: other digests would write every record anew."""
    assert digest_of("handbook", "a.md") == "1c1582fd7f9e89ce9d3b5604fece5bbb39ebc0c6"


def test_keys_and_digests_are_made_of_the_parts_that_they_always_were() -> None:
    """For ledgers of earlier versions, as above."""
    key = record_keys("handbook", DocumentId("a.md"))("text", 2)
    digest = record_digests("/docs/", None, {"b": ("x",), "a": 1})(key, "# A\n\ntext")

    assert key == digest_of("handbook", "a.md", "text", "2")
    assert digest == digest_of(key, "# A\n\ntext", "/docs/", "", "a=1.0", "b=('x',)")


def test_each_part_of_a_chunk_s_identity_changes_its_key() -> None:
    """Sources, documents and repeats must not share records."""
    keys = {
        record_keys("source", DocumentId("document"))("text", 0),
        record_keys("other", DocumentId("document"))("text", 0),
        record_keys("source", DocumentId("other"))("text", 0),
        record_keys("source", DocumentId("document"))("other", 0),
        record_keys("source", DocumentId("document"))("text", 1),
    }

    assert len(keys) == 5


def test_everything_that_a_record_says_changes_its_digest() -> None:
    """What the digest leaves out would never be brought up to date."""
    key = RecordKey("key")
    digests = {
        record_digests("/docs/", None, {"a": "1"})(key, "text"),
        record_digests("/docs/", None, {"a": "1"})(RecordKey("other"), "text"),
        record_digests("/docs/", None, {"a": "1"})(key, "other"),
        record_digests("/other/", None, {"a": "1"})(key, "text"),
        record_digests("/docs/", "strategy-1", {"a": "1"})(key, "text"),
        record_digests("/docs/", None, {})(key, "text"),
        record_digests("/docs/", None, {"b": "1"})(key, "text"),
        record_digests("/docs/", None, {"a": "2"})(key, "text"),
        record_digests("/docs/", None, {"a": 1.0})(key, "text"),
        record_digests("/docs/", None, {"a": ("1",)})(key, "text"),
        record_digests("/docs/", None, {"a": "1", "b": "1"})(key, "text"),
    }

    assert len(digests) == 11


def test_the_order_of_metadata_does_not_change_a_digest() -> None:
    """A mapping has no order; moving a line of front matter changes nothing that is stored."""
    entries: list[tuple[str, MetadataValue]] = [("a", "1"), ("b", 2.0), ("c", ("3", "4"))]

    digests = {record_digests("/", None, dict(order))(RecordKey("key"), "text") for order in permutations(entries)}

    assert len(digests) == 1


# ----------------------------------------------------------------------------------------------- encodings


@each_encoding
@given(value=st.one_of(SOUND_TEXT, NAUGHTY_TEXT))
def test_an_encoded_value_can_be_read_back(encoding: Encoding, value: str) -> None:
    """From the metadata alone one must be able to tell which document a record came from."""
    encoded = encoding.encode(value, LONGER_THAN_ANY_VALUE)

    assert decode(encoded, encoding.escape) == value


@each_encoding
@given(value=st.one_of(ANY_TEXT, NAUGHTY_TEXT), characters_max=st.integers(64, 300))
def test_an_encoded_value_has_only_characters_that_the_service_allows(
    encoding: Encoding, value: str, characters_max: int
) -> None:
    """One character that is not allowed costs the whole record."""
    encoded = encoding.encode(value, characters_max)

    assert encoding.is_allowed(encoded)


@each_encoding
@given(
    value=st.one_of(ANY_TEXT, NAUGHTY_TEXT),
    other=st.one_of(ANY_TEXT, NAUGHTY_TEXT),
    characters_max=st.integers(20, 100),
)
def test_different_values_are_encoded_differently(
    encoding: Encoding, value: str, other: str, characters_max: int
) -> None:
    """Two folders must not become one, cut or not, and even if their names are not Unicode."""
    assume(value != other)

    assert encoding.encode(value, characters_max) != encoding.encode(other, characters_max)


@each_encoding
@given(shared=SOUND_TEXT, value=SOUND_TEXT, other=SOUND_TEXT)
def test_long_values_that_differ_only_at_the_end_stay_different(
    encoding: Encoding, shared: str, value: str, other: str
) -> None:
    """Deep paths begin alike; what tells them apart is just what a plain cut would lose."""
    assume(value != other)
    start = (shared or "folder/") * 300

    encoded = encoding.encode(start + value, encoding.characters_max)
    other_encoded = encoding.encode(start + other, encoding.characters_max)

    assert encoded != other_encoded


@each_encoding
@given(value=st.one_of(SOUND_TEXT, NAUGHTY_TEXT).map("0123456789abcdef-_".__add__), data=st.data())
def test_a_value_that_is_too_long_is_cut_between_characters_and_marked(
    encoding: Encoding, value: str, data: st.DataObject
) -> None:
    """Half an escape would be read as text, half a character as none."""
    whole_length = len(encoding.encode(value, LONGER_THAN_ANY_VALUE))
    assume(whole_length > 18)
    characters_max = data.draw(st.integers(18, whole_length - 1))

    encoded = encoding.encode(value, characters_max)

    kept, mark = encoded[:-18], encoded[-18:]
    assert len(encoded) <= characters_max
    assert mark == f"{encoding.escape}-{digest_of(value)[:16]}"
    assert value.startswith(decode(kept, encoding.escape))
    assert decode(encoded, encoding.escape).endswith(mark), "the cut stays visible"


@each_encoding
@given(value=st.one_of(ANY_TEXT, NAUGHTY_TEXT).map("0123456789abcdef-_x".__add__))
def test_a_value_that_fits_exactly_is_not_cut(encoding: Encoding, value: str) -> None:
    """Reading back must not depend on luck at the limit."""
    whole = encoding.encode(value, LONGER_THAN_ANY_VALUE)

    assert encoding.encode(value, len(whole)) == whole
    assert encoding.encode(value, len(whole) - 1) != whole


@each_encoding
@given(value=st.one_of(ANY_TEXT, NAUGHTY_TEXT))
def test_only_a_cut_looks_like_a_cut(encoding: Encoding, value: str) -> None:
    """Whoever reads a value back must see whether it is whole."""
    assert f"{encoding.escape}-" not in encoding.encode(value, LONGER_THAN_ANY_VALUE)


@each_encoding
def test_values_that_people_use_are_written_as_they_are(encoding: Encoding) -> None:
    """Namespaces and metadata are read and typed by people."""
    assert encoding.encode("getting-started_2", 64) == "getting-started_2"


def test_metadata_keeps_paths_and_urls_legible() -> None:
    """`memsync-document` is mostly a path."""
    assert encode_metadata("docs/a b.md", 256) == "docs/a b.md"
    assert encode_metadata("https://x.org/a@b+c:1", 256) == "https://x.org/a@b+c:1"
    assert encode_metadata("a=b", 256) == "a=3Db"
    assert encode_metadata("é\n", 256) == "=C3=A9=0A"


def test_a_segment_of_a_namespace_holds_no_slash_and_no_wildcard() -> None:
    """A title with a slash must not open a folder, nor one with a star match everything."""
    assert encode_namespace_segment("a/b*c.d:e") == "a:2Fb:2Ac:2Ed:3Ae"


def test_more_characters_than_are_remembered_are_encoded_as_well() -> None:
    """The encoder keeps what it has worked out, up to a bound."""
    every_script = "".join(map(chr, range(0x4E00, 0x4E00 + 20_000)))

    encoded = encode_metadata(every_script, LONGER_THAN_ANY_VALUE)

    assert decode(encoded, METADATA_ESCAPE) == every_script


@each_encoding
@given(value=ANY_TEXT)
@example(value="\ud800")
def test_reading_back_never_fails(encoding: Encoding, value: str) -> None:
    """Whatever stands in a memory is shown to people; a lone surrogate shows as a replacement character."""
    decoded = decode(encoding.encode(value, LONGER_THAN_ANY_VALUE), encoding.escape)

    decoded.encode()  # can be written
