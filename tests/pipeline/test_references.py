"""References in a configuration: what they stand for, where that is checked, and where it must not show."""

import os
import pickle
import traceback
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.kit.contract import scan_into
from pipeline.concealing import Concealer
from pipeline.configuration.loading import load_sources
from pipeline.configuration.resolving import concealed_errors, discreet, resolved
from pipeline.configuration.settings import SourceSettings, listing_basis, recipe
from pipeline.errors import ConfigurationError, SourceError, UnreadableDocument
from pipeline.model import Checkpoint, Document, DocumentId, DocumentRef, ScanError, SourceEvent
from pipeline.protocols import RecognisesRenames
from pipeline.references import FORM_BY_SCHEME, Reference, parse

SECRET = "hunter2-of-the-marsh"

SQL = """\
source: {{type: sql, url: "{url}", table: pages, id: id}}
destination: {{endpoint_url: local}}
"""


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("MEMSYNC_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "docs.yaml"


def load(file: Path, text: str) -> SourceSettings:
    file.write_text(text)
    (source,) = load_sources([file])
    return source


def faults(file: Path, text: str) -> list[str]:
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_sources([file])
    return str(caught.value).replace(f"{file.parent}{os.sep}", "").splitlines()


# --------------------------------------------------------------------------------------------- how they look


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("${env:A}", (Reference("env", "A"),)),
        ("a${env:A}b${file:/run/x}", ("a", Reference("env", "A"), "b", Reference("file", "/run/x"))),
        ("${aws-sm:prod/wiki#password}", (Reference("aws-sm", "prod/wiki#password"),)),
        ("${keyring:wiki/reader@example.com}", (Reference("keyring", "wiki/reader@example.com"),)),
        ("$${env:A}", ("${", "env:A}")),
        ("$$${env:A}", ("$", "${", "env:A}")),
        ("costs $5 {title}", ("costs $5 {title}",)),
    ],
)
def test_references_are_told_from_what_is_around_them(text: str, parts: tuple[str | Reference, ...]) -> None:
    assert parse(text).parts == parts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${A}", "`${A}` is no reference; there are ${env:NAME}"),
        ("${envv:A}", "did you mean ${env:NAME}?"),
        ("${env:}", "it should be ${env:NAME}"),
        ("${env:A-B}", "it should be ${env:NAME}"),
        ("${env:A", "no `}` ends it"),
        ("${aws-sm:a#}", "it should be ${aws-sm:NAME_OR_ARN}"),
        ("${keyring:wiki}", "it should be ${keyring:SERVICE/USER}"),
    ],
)
def test_what_only_looks_like_a_reference_is_refused(file: Path, text: str, said: str) -> None:
    """Sent to a server as it stands, it would come back as a puzzling refusal."""
    (told,) = faults(file, SQL.format(url=f"sqlite:///{text}"))

    assert told.startswith("docs.yaml:1:26: `source.url`: ")
    assert said in told


@given(text=st.text("a${}:/#env ", max_size=20))
def test_any_text_is_references_and_text_or_refused(text: str) -> None:
    try:
        template = parse(text)
    except ValueError:
        return
    assert (
        template.filled({each: str(each) for each in template.references}).replace("${", "")
        in (
            text.replace("$${", "").replace("${", ""),
            text.replace("${", "").replace("$${", ""),
        )
        or "://" in text
    )


@given(password=st.text(min_size=1, max_size=12))
def test_a_password_in_a_url_may_have_any_characters(password: str) -> None:
    """Generated passwords hold `@` and `/`, at which a URL would break."""
    if not password.isascii():
        password = password.encode("ascii", "ignore").decode() or "x"
    url = parse("postgresql://reader:${env:PW}@db.example.com/wiki").filled({Reference("env", "PW"): password})

    assert urlsplit(url).hostname == "db.example.com"
    assert unquote(urlsplit(url).password or "") == password


def test_the_name_of_a_file_refers_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files come from archives and other people, and the name of a source is shown everywhere."""
    monkeypatch.setenv("PW", SECRET)
    file = tmp_path / "${env:PW}.yaml"
    file.write_text("source: {type: filesystem, path: .}\ndestination: {endpoint_url: local}\n")

    with pytest.raises(ConfigurationError) as caught:
        load_sources([file])

    assert SECRET not in str(caught.value)


def test_every_kind_is_named_in_the_advice() -> None:
    with pytest.raises(ValueError, match="no reference") as caught:
        parse("${x}")

    assert all(f"${{{scheme}:" in str(caught.value) for scheme in FORM_BY_SCHEME)


# --------------------------------------------------------------------------------------- where they may stand


def test_settings_beside_the_source_have_their_values_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` needs to know where the state is, and asks nobody."""
    monkeypatch.setenv("TEAM", "docs")
    (file.parent / "memory").write_text("handbook-a1B2c3D4e5\n")

    source = load(
        file,
        "name: ${env:TEAM}\nsource: {type: filesystem, path: .}\nrecord: {metadata: {team: '${env:TEAM}'}}\n"
        "destination: {memory_id: '${file:memory}', region: eu-west-1}\nstate: {path: 'state/${env:TEAM}'}\n",
    )

    assert (source.name, source.destination.memory_id) == ("docs", "handbook-a1B2c3D4e5")
    assert source.record.metadata == {"team": "docs"}
    assert source.state_folder == file.parent / "state" / "docs" / "docs"


def test_a_number_can_come_by_reference(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRITERS", "3")

    source = load(file, SQL.format(url="sqlite:///a.db") + "writers: {concurrency: '${env:WRITERS}'}")

    assert source.writers.concurrency == 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("schedule: ${env:NOT_SET}", "docs.yaml:3:11: `schedule`: the environment variable NOT_SET is not set; set it"),
        ("schedule: ${file:nope}", "docs.yaml:3:11: `schedule`: the file nope cannot be read: No such file or dir"),
        (
            "state: {path: '${ssm:/a}'}",
            "docs.yaml:3:15: `state.path`: ${ssm:/a} can stand in the section `source` only",
        ),
    ],
)
def test_what_every_command_needs_must_be_there(file: Path, line: str, said: str) -> None:
    (told,) = faults(file, SQL.format(url="sqlite:///a.db") + line)

    assert told.startswith(said)


def test_an_unset_reference_of_the_source_keeps_no_command_from_working_that_needs_it_not(file: Path) -> None:
    """Whoever looks at the status of a source need not have its password."""
    source = load(file, SQL.format(url="postgresql+psycopg://reader:${env:NOT_SET}@db/wiki"))

    assert source.source.type == "sql"


def test_what_a_reference_stands_for_is_checked_as_far_as_this_machine_knows_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number that is none should not wait for the run at night."""
    monkeypatch.setenv("ROWS", SECRET)
    text = SQL.format(url="sqlite:///a.db").replace("id: id", "id: id, page_rows: '${env:ROWS}'")

    (told,) = faults(file, text)

    assert told == (
        'docs.yaml:1:77: `source.page_rows` is "${env:ROWS}"; what that stands for should be a whole number'
    )


def test_what_it_cannot_know_is_left_for_the_run(file: Path) -> None:
    text = SQL.format(url="${aws-sm:wiki}").replace("id: id", "id: id, page_rows: '${ssm:/rows}'")

    assert load(file, text).source.type == "sql"


def test_beside_a_reference_other_faults_are_told_all_the_same(file: Path) -> None:
    (told,) = faults(file, SQL.format(url="${aws-sm:wiki}").replace("id: id", "id: id, tabel: x"))

    assert told.startswith("docs.yaml:1:66: unknown key `source.tabel`; did you mean `table`?")


@pytest.mark.parametrize("url", ["postgresql://reader:${env:PW}x@db/wiki", "postgresql://reader:x@${env:HOST}/wiki"])
def test_a_password_beside_a_reference_is_refused_as_ever(
    file: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PW", SECRET)
    monkeypatch.setenv("HOST", "db")

    (told,) = faults(file, SQL.format(url=url))

    assert "a password must not stand in `url`" in told
    assert SECRET not in told


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        (
            "password: hunter2",
            "`source.password` is a value that is not shown; it should be a reference, such as ${env:NA",
        ),
        ("password: '${env:A}', password_variable: B", "one of `password` and `password_variable` should be given"),
        ("port: 143", "one of `password` and `password_variable` should be given"),
    ],
)
def test_an_option_that_is_a_secret_is_given_by_reference_and_once(
    file: Path, monkeypatch: pytest.MonkeyPatch, secret: str, said: str
) -> None:
    monkeypatch.setenv("A", SECRET)

    (told,) = faults(
        file, f"source: {{type: imap, host: localhost, user: me, {secret}}}\ndestination: {{endpoint_url: local}}\n"
    )

    assert said in told
    assert "hunter2" not in told


# ---------------------------------------------------------------------------------------- what becomes of them


async def test_the_connector_is_given_the_value(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", f"{SECRET}@/")

    settings, _ = await resolved(load(file, SQL.format(url="postgresql://reader:${env:PW}@db/wiki")))

    assert settings.url == f"postgresql://reader:{SECRET}%40%2F@db/wiki"  # type: ignore[attr-defined]


async def test_nothing_of_a_value_shows_in_settings_or_is_pickled(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings end up in traces and logs by a careless line; what is pickled, in another process."""
    monkeypatch.setenv("PW", SECRET)
    source = load(file, SQL.format(url="postgresql://reader:${env:PW}@db/wiki"))

    settings, _ = await resolved(source)

    for shown in (repr(source), str(source), source.model_dump_json(), repr(settings), str(settings)):
        assert SECRET not in shown
    with pytest.raises(TypeError):
        pickle.dumps(settings)


async def test_all_that_cannot_be_had_is_told_with_its_place(file: Path) -> None:
    source = load(
        file,
        SQL.format(url="postgresql://reader:${env:NOT_SET}@db/wiki").replace("id: id", "id: '${file:nope}'"),
    )

    with pytest.raises(SourceError) as caught:
        await resolved(source)

    first, second = str(caught.value).splitlines()
    assert "docs.yaml:1:26: `source.url`: the environment variable NOT_SET is not set; set it. Nothing was" in first
    assert "`source.id`: the file nope cannot be read: No such file" in second


async def test_a_value_that_is_not_right_is_told_without_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can change between the check and the run."""
    monkeypatch.setenv("ROWS", "5")
    source = load(file, SQL.format(url="sqlite:///a.db").replace("id: id", "id: id, page_rows: '${env:ROWS}'"))
    monkeypatch.setenv("ROWS", SECRET)

    with pytest.raises(ConfigurationError) as caught:
        await resolved(source)

    assert 'is "${env:ROWS}"; what that stands for should be a whole number' in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_pipe_is_no_file_with_a_secret(file: Path) -> None:
    """Read to be checked, it would be empty for the run; and one that nobody writes to would never end."""
    os.mkfifo(file.parent / "pipe")

    (told,) = faults(file, SQL.format(url="sqlite:///a.db") + "schedule: ${file:pipe}")

    assert "pipe is no regular file" in told


def test_another_password_is_no_reason_to_list_everything_anew(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are changed every month; an incremental source would begin at its beginning each time."""
    text = SQL.format(url="postgresql://reader:${env:CODE}@${env:HOST}/${env:DB_PASSWORD}")
    monkeypatch.setenv("HOST", "a.example.com")
    digests = []
    for value in ("one", "two"):
        monkeypatch.setenv("CODE", value)
        monkeypatch.setenv("DB_PASSWORD", value)
        digests.append(listing_basis(load(file, text)))

    assert len(set(digests)) == 1


@pytest.mark.parametrize("url", ["postgresql://reader@${env:HOST}/wiki", "${env:HOST}"])
def test_another_place_to_read_from_is(file: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A checkpoint of another database would hide what this one has had before."""
    digests = []
    for value in ("a.example.com", "b.example.com"):
        monkeypatch.setenv("HOST", value if "@" in url else f"postgresql://{value}/wiki")
        digests.append(listing_basis(load(file, SQL.format(url=url))))

    assert len(set(digests)) == 2


def test_a_password_within_a_url_that_comes_whole_is_no_reason_either(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for value in ("one", "two"):
        monkeypatch.setenv("DATABASE_URL", f"postgresql://reader:{value}@db/wiki")
        digests.append(listing_basis(load(file, SQL.format(url="${env:DATABASE_URL}"))))

    assert len(set(digests)) == 1


def test_a_reference_in_what_records_are_made_of_counts_by_its_value(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records with another team in them are other records."""
    recipes = []
    for value in ("one", "two"):
        monkeypatch.setenv("TEAM", value)
        recipes.append(
            recipe(load(file, SQL.format(url="sqlite:///a.db") + "record: {metadata: {team: '${env:TEAM}'}}"))
        )

    assert len(set(recipes)) == 2


# ------------------------------------------------------------------------------------------------- concealing


@pytest.mark.parametrize(
    "words",
    [
        f"login failed with {SECRET}!",
        "cannot open https://reader:s%40crt%2Fx@db",
        "bad key: line two of it",
        'said {"a": "s@crt/x"}',
    ],
)
def test_values_are_taken_out_of_what_a_connector_says(words: str) -> None:
    """Libraries quote what they were given, as it is or encoded."""
    concealer = Concealer({SECRET: "${env:A}", "s@crt/x": "${env:B}", "line one of it\nline two of it": "${file:k}"})

    with pytest.raises(SourceError) as caught, concealed_errors(concealer):
        raise SourceError(f"Cannot list: {words}") from ValueError(words)

    for shown in (str(caught.value), str(caught.value.__cause__)):
        assert "${" in shown
        assert SECRET not in shown
        assert "s@crt" not in shown
        assert "s%40crt" not in shown
        assert "line two" not in shown


def test_the_password_of_a_url_is_taken_out_by_itself_too() -> None:
    """Drivers take a URL apart and quote its parts."""
    concealer = Concealer({f"postgresql://reader:{SECRET}@db/wiki": "${env:URL}"})

    assert concealer.conceal(f"password {SECRET} refused") == "password ${env:URL} refused"


@pytest.mark.parametrize("error", [ValueError("unexpected"), SourceError("It cannot be read.")])
def test_an_error_behind_one_that_names_a_file_by_itself_does_not_show(error: Exception) -> None:
    """The words of an `OSError` are put together from its parts when they are asked for."""
    concealer = Concealer({SECRET: "${env:A}"})

    with pytest.raises(SourceError) as caught, concealed_errors(concealer):
        raise error from FileNotFoundError(2, "No such file", SECRET)

    assert caught.value.__suppress_context__ or caught.value.__cause__ is None
    assert SECRET not in "".join(traceback.format_exception(caught.value))


class TalkativeConnector:
    """Says the secret whenever it can, and has a method that not every connector has."""

    def __init__(self, _settings: object, _base_folder: Path) -> None:
        pass

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        yield [ScanError("a/", "denied", f"Cannot list with {SECRET}.")]
        raise SourceError(f"Lost {SECRET}.")

    async def fetch(self, ref: DocumentRef) -> Document:
        raise UnreadableDocument("denied", f"Cannot read with {SECRET}.")

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        raise SourceError(f"Cannot look with {SECRET}.")

    def trace(self, ref: DocumentRef) -> str | None:
        return None


async def test_whatever_a_connector_says_is_without_the_secret(tmp_path: Path) -> None:
    """Its words go into logs, reports and dead letters. What it can do beside, it can do still."""
    connector_type = discreet(TalkativeConnector, Concealer({SECRET: "${env:A}"}))  # type: ignore[arg-type]
    connector = connector_type(None, tmp_path)
    events: list[SourceEvent] = []

    with pytest.raises(SourceError) as lost:
        await scan_into(events, connector)
    with pytest.raises(UnreadableDocument) as unread:
        await connector.fetch(DocumentRef(DocumentId("a/b"), "a/b"))
    with pytest.raises(SourceError) as unknown:
        await connector.locate(DocumentId("a/b"))

    assert events == [ScanError("a/", "denied", "Cannot list with ${env:A}.")]
    assert [str(each.value) for each in (lost, unread, unknown)] == [
        "Lost ${env:A}.",
        "Cannot read with ${env:A}.",
        "Cannot look with ${env:A}.",
    ]
    assert unread.value.code == "denied"
    assert isinstance(connector, RecognisesRenames)
