"""The local checks are the service's own: proved against the installed botocore model, read by botocore itself."""

import json
import re
import string
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits import service_limits
from pipeline.local_memory.api import load_api
from pipeline.local_memory.errors import ServiceError
from pipeline.model import (
    API_NAMES,
    CALLS,
    Change,
    ClientToken,
    Create,
    Delete,
    MemoryRecordId,
    MetadataValue,
    Operation,
    Update,
)
from tests.pipeline.examples import MEMORY_ID, known, memory, record

SERVICE = ServiceModel(Loader().load_service_model("bedrock-agentcore", "service-2"))

# Signs, white space of other scripts, letters that fold into ASCII ones, digits of other scripts, halves of pairs.
PROBES = [*map(chr, range(128)), *"\x85\xa0ªéßſKİ٣１۩\u2028\u200b\ufeff中\U0001f600\ud800\udfff"]


# ------------------------------------------------------------------------------ what the model says of a record


@dataclass(frozen=True)
class Constrained:
    """A member of a request that the model sets bounds to; the bounds are of characters, entries or a number."""

    operation: Operation
    path: str
    shape: Any

    @property
    def name(self) -> str:
        return f"{self.operation.value} {self.path}"

    @property
    def minimum(self) -> int:
        return int(self.shape.metadata.get("min", 0))

    @property
    def maximum(self) -> int:
        return int(self.shape.metadata["max"])

    def allows(self, value: str) -> bool:
        """Whether the model's pattern matches; botocore itself never checks it. Java's `\\w` and `\\s` are ASCII."""
        pattern = self.shape.metadata.get("pattern")
        return pattern is None or re.fullmatch(pattern, value, re.ASCII) is not None

    def text_of(self, length: int) -> str:
        """A text of `length` characters that the pattern allows."""
        texts = (f"{start}{'a' * (length - len(start))}" for start in ("", "mem-"))
        return next(text for text in texts if len(text) == length and self.allows(text))


def constrained_members() -> list[Constrained]:
    """Every member of the three requests that has a bound, found by walking the model; records' own by plain path."""

    def walk(shape: Any, path: str) -> Iterator[tuple[str, Any]]:
        if {"min", "max", "pattern", "enum"} & shape.metadata.keys():
            yield path, shape
        match shape.type_name:
            case "structure":
                for name, member in shape.members.items():
                    yield from walk(member, f"{path}.{name}" if path else name)
            case "list":
                yield from walk(shape.member, f"{path}[]")
            case "map":
                yield from walk(shape.key, f"{path} key")
                yield from walk(shape.value, f"{path} value")

    return [
        Constrained(operation, path.removeprefix("records[]."), shape)
        for operation in Operation
        for path, shape in walk(request_shape(operation), "")
    ]


def request_shape(operation: Operation) -> Any:
    return SERVICE.operation_model(f"Batch{operation.value.capitalize()}MemoryRecords").input_shape


def changed(operation: Operation, **members: Any) -> Change:
    """A change that breaks nothing but for what `members` say of its record."""
    return Create(record(**members)) if operation is Operation.CREATE else Update(known(), record(**members))


def entries(count: int) -> dict[str, MetadataValue]:
    return {f"key{number}": "value" for number in range(count)}


# How a change comes to hold a given value in each member. Members of an update are named like those of a create.
SITES: Mapping[str, Callable[[Operation, str], Change]] = {
    "requestIdentifier": lambda operation, text: changed(operation, key=text),
    "namespaces[]": lambda operation, text: changed(operation, namespace=text),
    "content.text": lambda operation, text: changed(operation, text=text),
    "memoryStrategyId": lambda operation, text: changed(operation, strategy_id=text),
    "metadata key": lambda operation, text: changed(operation, metadata={text: "value"}),
    "metadata value.stringValue": lambda operation, text: changed(operation, metadata={"key": text}),
    "metadata value.stringListValue[]": lambda operation, text: changed(operation, metadata={"key": ("a", text)}),
    "memoryRecordId": lambda operation, text: (
        Delete(known(memory_record_id=text))
        if operation is Operation.DELETE
        else Update(known(memory_record_id=text), record())
    ),
}
SIZED_SITES: Mapping[str, Callable[[Operation, int], Change]] = {
    "metadata": lambda operation, count: changed(operation, metadata=entries(count)),
    "metadata value.stringListValue": lambda operation, count: changed(operation, metadata={"key": ("a",) * count}),
}

# What no change can break, with the reason.
UNBREAKABLE = {
    "memoryId": "the configuration's, and checked there",
    "records": "the batcher's; see below",
    "namespaces": "a record has exactly one namespace",
    "sourceNamespaces": "a known record has exactly one namespace",
    "recordExpirySpecification.recordExpiryDurationDays": "never sent",
    "recordExpirySpecification.action": "never sent",
    # The ledger holds what the memory confirmed, and the memory has taken this very namespace.
    "sourceNamespaces[]": "checked when the record was stored",
    "namespace": "checked when the record was stored",
}

MEMBERS = constrained_members()
TEXT_MEMBERS = [member for member in MEMBERS if member.path in SITES]
SIZED_MEMBERS = [member for member in MEMBERS if member.path in SIZED_SITES]

each_text = pytest.mark.parametrize("member", TEXT_MEMBERS, ids=lambda member: member.name)
each_sized = pytest.mark.parametrize("member", SIZED_MEMBERS, ids=lambda member: member.name)


def breach(change: Change) -> str | None:
    return service_limits().breach(change)


def test_every_constrained_member_of_a_record_is_checked() -> None:
    """A newer model may bound what was free; that must be seen here, not in a batch that AWS refuses."""
    members = {member.path for member in MEMBERS}

    assert members == SITES.keys() | SIZED_SITES.keys() | UNBREAKABLE.keys()
    assert {member.operation for member in MEMBERS} == set(Operation)


def test_bounds_are_of_the_kinds_that_are_proved_here() -> None:
    """A constraint of a new kind, such as a number's range, would need a proof of its own."""
    assert {member.shape.type_name for member in TEXT_MEMBERS} == {"string"}
    assert {member.shape.type_name for member in SIZED_MEMBERS} == {"list", "map"}
    assert not any(member.shape.enum for member in TEXT_MEMBERS)
    assert all({"min", "max"} <= member.shape.metadata.keys() for member in TEXT_MEMBERS + SIZED_MEMBERS)


@each_text
def test_a_text_is_taken_at_its_bounds_and_refused_just_beyond(member: Constrained) -> None:
    """One below would waste what is allowed, one above would cost a whole request."""
    site, shortest, longest = SITES[member.path], member.minimum, member.maximum

    assert breach(site(member.operation, member.text_of(shortest))) is None
    assert breach(site(member.operation, member.text_of(longest))) is None
    assert breach(site(member.operation, member.text_of(longest + 1)))
    assert breach(site(member.operation, member.text_of(shortest)[:-1]))


@each_text
@pytest.mark.parametrize("place", ["first", "inside", "last"])
def test_a_character_is_refused_exactly_where_the_pattern_refuses_it(member: Constrained, place: str) -> None:
    """Too strict would dead-letter what the service takes, too lax would have it refuse the request."""
    valid = member.text_of(max(member.minimum, 8))
    position = {"first": 0, "inside": len(valid) // 2, "last": len(valid) - 1}[place]
    texts = [valid[:position] + probe + valid[position + 1 :] for probe in PROBES]

    refused = [text for text in texts if breach(SITES[member.path](member.operation, text)) is not None]

    assert refused == [text for text in texts if not member.allows(text) or not is_utf8(text)]


def is_utf8(text: str) -> bool:
    return not re.search("[\ud800-\udfff]", text)


@each_sized
def test_a_list_or_map_is_taken_at_its_bounds_and_refused_just_beyond(member: Constrained) -> None:
    """A sixth item is not cut off by the service: it refuses the request."""
    site = SIZED_SITES[member.path]

    assert breach(site(member.operation, member.minimum)) is None
    assert breach(site(member.operation, member.maximum)) is None
    assert breach(site(member.operation, member.maximum + 1))


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(member, id=member.name)
        for member in SIZED_MEMBERS
        if member.path != "metadata"  # an empty map is not sent at all
    ],
)
def test_an_empty_list_or_map_is_refused(member: Constrained) -> None:
    """The service takes a record without metadata, and refuses one whose metadata is empty."""
    assert member.minimum == 1

    assert breach(SIZED_SITES[member.path](member.operation, 0))


def test_each_call_is_one_of_the_service() -> None:
    """Policies are made of these names: one that is not there permits nothing, without a word."""
    assert API_NAMES.keys() == {*CALLS}
    assert {*API_NAMES.values()} <= {*SERVICE.operation_names}


@pytest.mark.parametrize("operation", Operation)
def test_a_request_holds_as_many_records_as_the_model_allows(operation: Operation) -> None:
    """Fewer would be slower, more would be refused."""
    records = request_shape(operation).members["records"]

    assert service_limits().records_per_request_max == records.metadata["max"]


def test_a_record_has_no_more_namespaces_than_the_model_allows() -> None:
    """That a record has one namespace is built into its type."""
    assert service_limits().namespaces_max == SERVICE.shape_for("NamespacesList").metadata["max"] == 1


def test_what_is_never_sent_is_not_sent() -> None:
    """The proofs above leave out the members that no record has."""
    full = record(strategy_id="strategy-1", metadata={"a": "1", "b": 2.0, "c": ("3",)})

    members = [
        set(json.loads(memory().encode(change)))
        for change in (Create(full), Update(known()._replace(namespace="/old/"), full), Delete(known()))
    ]

    content = {"namespaces", "content", "timestamp", "metadata", "memoryStrategyId"}
    assert members == [
        {"requestIdentifier"} | content,
        {"memoryRecordId", "sourceNamespaces"} | content,
        {"memoryRecordId", "namespace"},
    ]


def test_a_memory_id_is_bounded_as_in_the_model() -> None:
    """A wrong id is a fault of the configuration and is found before anything is sent."""
    limit, shape = service_limits().memory_id, SERVICE.shape_for("MemoryId")
    assert limit.pattern is not None

    assert limit.min == shape.metadata["min"]
    assert limit.pattern.pattern == shape.metadata["pattern"]
    assert "max" not in shape.metadata, "then our own bound gives way"


# ----------------------------------------------------------------------------------- where we are stricter


@pytest.mark.parametrize("text", ["é" * 8001, "\U0001f600" * 4001, "中" * 5334])
def test_a_text_is_bounded_in_bytes_as_well(text: str) -> None:
    """The model counts characters; what the service counts is not documented."""
    assert breach(Create(record(text=text[:-1]))) is None
    assert breach(Create(record(text=text))) == "content.text has more than 16000 bytes in UTF-8"


@pytest.mark.parametrize("half", [chr(0xD800), chr(0xDFFF)], ids=["first half", "second half"])
def test_half_a_pair_is_refused_everywhere(half: str) -> None:
    """UTF-8 cannot carry it, so no request could."""
    for change in (
        Create(record(text=f"a{half}b")),
        Create(record(namespace=f"/a{half}b/")),
        Create(record(metadata={"key": f"a{half}b"})),
        Create(record(metadata={"key": ("a", f"a{half}b")})),
        Create(record(metadata={f"a{half}b": "value"})),
    ):
        assert breach(change)


def test_a_breach_never_repeats_the_content() -> None:
    """It goes into logs and dead letters, where no text of a document belongs."""
    secret = "SECRET"
    changes: list[Change] = [
        Create(record(text=secret * 3000)),
        Create(record(namespace=f"/{secret}?/")),
        Create(record(metadata={"key": f"{secret}?"})),
        Create(record(metadata={"key": (f"{secret}?",)})),
        Delete(known(memory_record_id=f"mem-{secret}?")),
    ]

    problems = [breach(change) for change in changes]

    assert all(problem and secret not in problem for problem in problems)


# ------------------------------------------------------------------ agreement with the local memory's validator

CHARACTERS = st.one_of(
    st.sampled_from(string.ascii_letters + string.digits + "/:-_*. @=+\n\t"), st.characters(codec="utf-8")
)
BOUNDS = (1, 2, 40, 50, 64, 80, 100, 128, 256, 1024)
TEXTS = st.one_of(
    st.text(CHARACTERS, max_size=12),
    st.text("az09-_/", max_size=60),
    st.tuples(st.sampled_from(BOUNDS), st.integers(-1, 1)).map(lambda near: "a" * (near[0] + near[1])),
)
RECORD_TEXTS = st.one_of(TEXTS, st.sampled_from(["a" * 16_000, "a" * 16_001]))
NAMESPACES = st.one_of(TEXTS, TEXTS.map(lambda text: f"/{text}/"))
METADATA = st.one_of(
    st.dictionaries(
        TEXTS,
        st.one_of(
            TEXTS,
            st.floats(allow_nan=False, allow_infinity=False),
            st.lists(TEXTS, max_size=6).map(tuple),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 22).map(entries),
)
MEMORY_RECORD_IDS = st.one_of(TEXTS, TEXTS.map(lambda text: f"mem-{text}"), st.just(f"mem-{'a' * 36}"))
USUALLY_SOUND = {"key": "key", "namespace": "/docs/", "text": "text", "strategy_id": None, "metadata": {"a": "1"}}


@st.composite
def any_changes(draw: st.DrawFn) -> Change:
    """A change in which some members, mostly one, may break a limit."""
    hostile = {
        "key": TEXTS,
        "namespace": NAMESPACES,
        "text": RECORD_TEXTS,
        "strategy_id": st.one_of(st.none(), TEXTS),
        "metadata": METADATA,
    }
    chosen = draw(st.sets(st.sampled_from([*hostile, "memory_record_id"]), max_size=2))
    members: dict[str, Any] = {name: draw(hostile[name]) for name in hostile if name in chosen}
    before = known()
    if "memory_record_id" in chosen:
        before = before._replace(memory_record_id=MemoryRecordId(draw(MEMORY_RECORD_IDS)))
    operation = draw(st.sampled_from(Operation))
    if operation is Operation.DELETE:
        return Delete(before)
    written = record(**{**USUALLY_SOUND, **members})
    return Create(written) if operation is Operation.CREATE else Update(before, written)


def operation_of(change: Change) -> Operation:
    match change:
        case Create():
            return Operation.CREATE
        case Update():
            return Operation.UPDATE
        case Delete():
            return Operation.DELETE


def is_taken_by_the_local_memory(change: Change) -> bool:
    """Whether the local memory, whose checks are written apart from ours, lets a request with `change` in."""
    operation = operation_of(change)
    body = memory().encode_request(operation, [memory().encode(change)], ClientToken("token"))
    call = load_api().find("POST", f"/memories/{MEMORY_ID}/memoryRecords/batch{operation.value.capitalize()}")
    assert call is not None
    try:
        call.read({}, body)
    except ServiceError:
        return False
    return True


@given(any_changes())
def test_our_checks_agree_with_those_of_the_local_memory(change: Change) -> None:
    """What is refused here must be what would be refused there, and nothing else."""
    # A key goes out with creates alone; as part of an update it is only looked up.
    if isinstance(change, Update):
        change = change._replace(record=change.record._replace(key=known().key))

    assert (breach(change) is None) == is_taken_by_the_local_memory(change)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_cannot_carry_is_refused(number: float) -> None:
    """It would go out as null, and the service would refuse the request for it."""
    change = Create(record(metadata={"key": number}))

    assert not is_taken_by_the_local_memory(change)
    assert breach(change)


# ------------------------------------------------------------------------------------------------------- cost


def test_reading_the_limits_does_not_import_botocore() -> None:
    """It takes 0.6 s, which `memsync validate` or `status` need not pay."""
    program = (
        "import sys; from pipeline.limits import service_limits; service_limits();"
        " sys.exit(any(name.split('.')[0] in {'botocore', 'aiobotocore', 'boto3'} for name in sys.modules))"
    )

    finished = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)

    assert finished.returncode == 0, finished.stderr.decode()
