"""`memsync console` as a server: what it tells to whom, and that its buttons are the commands."""

import http.client
import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import anyio
import pytest

from pipeline.configuration.settings import SourceSettings
from pipeline.console.sources import ConsoleSources
from pipeline.runs.parts import open_source_state

from .conftest import TEXT_CANARY, Folder, Memory, Memsync, Running

Json = dict[str, Any]


@dataclass
class Console:
    """A console that runs, asked as its page asks."""

    running: Running
    address: str

    @property
    def port(self) -> int:
        port = urlsplit(self.address).port
        assert port is not None
        return port

    @property
    def token(self) -> str:
        return urlsplit(self.address).fragment

    def request(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, str, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text, answer.headers

    def ask(self, path: str) -> Json:
        status, text, _ = self.request("GET", path, Authorization=f"Bearer {self.token}")
        assert status == 200, text
        told: Json = json.loads(text)
        return told

    def do(self, path: str, body: object) -> tuple[int, Json]:
        status, text, _ = self.request("POST", path, body, Authorization=f"Bearer {self.token}")
        return status, json.loads(text)

    def start(self, verb: str, *letters: str) -> Json:
        status, told = self.do("/api/sources/docs/commands", {"verb": verb, "letters": list(letters)})
        assert status == 200, told
        return told

    def wait(self, is_so: Callable[[Json], bool]) -> Json:
        """The overview, once it is so."""
        while not is_so(told := self.ask("/api/overview")):
            pass
        return told

    def finished(self, command: Json) -> Json:
        told = self.wait(lambda told: found(told, command["id"])["ended_at"] is not None)
        return found(told, command["id"])


def found(overview: Json, command_id: str) -> Json:
    return next(dict(command) for command in overview["commands"] if command["id"] == command_id)


@pytest.fixture
def docs(folder: Folder, memory: Memory) -> Folder:
    folder.configure(memory.url)
    folder.write_documents(3)
    return folder


@pytest.fixture
def console(docs: Folder, memsync: Memsync) -> Iterator[Console]:
    running = memsync.start("console", "docs.yaml")
    yield Console(running, running.read_line().split()[-1])
    running.stop_by(signal.SIGTERM)


# ------------------------------------------------------------------------------------------------ who may ask

PATHS = ["/api/overview", "/api/sources/docs/letters", "/api/sources/docs/letters/1", "/api/search?query=a"]


def test_nothing_is_told_without_the_token(console: Console) -> None:
    """Every page that a browser has open, and every user of this machine, can reach the port."""
    answers = {
        (path, authorization): console.request(
            "GET", path, **({"Authorization": authorization} if authorization else {})
        )
        for path in (*PATHS, "/api/no/such/thing")
        for authorization in ("", "Bearer", "Bearer x", "Bearer \xff", "Basic x", f"Basic {console.token}")
    }

    assert {status for status, _, _ in answers.values()} == {401}
    assert not any("docs" in text for _, text, _ in answers.values())


def test_nothing_is_done_without_the_token(console: Console, memory: Memory) -> None:
    """A form on a page elsewhere can be sent to any address."""
    status, _, _ = console.request("POST", "/api/sources/docs/commands", {"verb": "run"})

    assert status == 401
    assert console.ask("/api/overview")["commands"] == []
    assert memory.records() == []


def test_a_name_that_was_made_to_mean_this_machine_is_refused(console: Console) -> None:
    """A page of that name would be of the same origin."""
    for host in ("evil.example.com", "127.0.0.1.example.com", "[::1]"):
        status, _, _ = console.request("GET", "/", Host=host)
        assert status == 421, host


def test_the_page_holds_nothing_and_lets_nothing_in(console: Console) -> None:
    status, text, headers = console.request("GET", "/")

    assert status == 200
    assert "docs" not in text
    assert console.token not in text
    policy = str(headers["Content-Security-Policy"])
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["Cache-Control"] == "no-store"


def test_the_token_is_another_each_time(docs: Folder, memsync: Memsync) -> None:
    tokens = set()
    for _ in range(2):
        running = memsync.start("console", "docs.yaml")
        tokens.add(running.read_line().split("#")[1])
        running.stop_by(signal.SIGTERM)

    assert len(tokens) == 2
    assert all(len(token) > 40 for token in tokens)


# -------------------------------------------------------------------------------------------------- it tells


def test_sources_are_told_as_status_tells_them(console: Console, memsync: Memsync) -> None:
    before = console.ask("/api/overview")
    memsync("run", "docs.yaml")

    after = console.ask("/api/overview")

    assert [source["status"] for source in before["sources"]] == [None]
    (source,) = after["sources"]
    assert (source["name"], source["type"], source["status"]) == ("docs", "filesystem", "in_sync")
    assert (source["documents"], source["records"]) == (3, 3)
    assert [(run["verb"], run["status"], run["added"], run["report"]) for run in source["runs"]] == [
        ("run", "in_sync", 3, True)
    ]


def test_a_source_whose_state_cannot_be_read_hides_no_other(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    docs.configure(memory.url, "other.yaml", name="other")
    memsync("run", "docs.yaml")
    (docs.state / "state.sqlite3").write_bytes(b"ruined, and no database at all" * 100)
    running = memsync.start("console", ".")
    console = Console(running, running.read_line().split()[-1])

    told = {source["name"]: source for source in console.ask("/api/overview")["sources"]}
    running.stop_by(signal.SIGTERM)

    assert told["docs"]["problem"]
    assert told["other"]["problem"] is None


def test_a_file_that_becomes_faulty_is_told_and_what_was_known_stays(console: Console, docs: Folder) -> None:
    """Somebody edits it while the page is open."""
    whole = (docs.path / "docs.yaml").read_text()
    (docs.path / "docs.yaml").write_text(whole + "shedule: daily\n")
    faulty = console.ask("/api/overview")
    (docs.path / "docs.yaml").write_text(whole.replace("name: docs", "name: manual"))

    mended = console.ask("/api/overview")

    assert "docs.yaml" in faulty["problem"]
    assert "schedule" in faulty["problem"]
    assert [source["name"] for source in faulty["sources"]] == ["docs"]
    assert mended["problem"] is None
    assert [source["name"] for source in mended["sources"]] == ["manual"]
    status, told = console.do("/api/sources/docs/commands", {"verb": "run"})
    assert status == 404
    assert "docs" in told["problem"]


def test_a_file_that_a_source_extends_is_read_again_too(docs: Folder, memsync: Memsync) -> None:
    """The page would show settings that no command it starts goes by."""
    shared = docs.path / "shared.yaml"
    shared.write_text('schedule: "0 1 * * *"\n')
    (docs.path / "docs.yaml").write_text("extends: shared.yaml\n" + (docs.path / "docs.yaml").read_text())
    running = memsync.start("console", "docs.yaml")
    console = Console(running, running.read_line().split()[-1])
    before = console.ask("/api/overview")

    shared.write_text('schedule: "0 22 * * *"\n')
    after = console.ask("/api/overview")
    running.stop_by(signal.SIGTERM)

    assert [told["sources"][0]["schedule"] for told in (before, after)] == ["0 1 * * *", "0 22 * * *"]


def test_a_broken_link_among_the_files_is_told(docs: Folder, memsync: Memsync) -> None:
    """An answer that is none would leave the page without a word of what is wrong."""
    running = memsync.start("console", ".")
    console = Console(running, running.read_line().split()[-1])
    (docs.path / "gone.yaml").symlink_to("nowhere.yaml")

    told = console.ask("/api/overview")
    running.stop_by(signal.SIGTERM)

    assert "gone.yaml" in told["problem"]
    assert [source["name"] for source in told["sources"]] == ["docs"]


def test_a_report_is_shown_once_by_its_address(console: Console, memsync: Memsync) -> None:
    """The browser itself loads the page of a report, and has no token: the address must not be worth keeping."""
    memsync("run", "docs.yaml")
    (source,) = console.ask("/api/overview")["sources"]
    _, told = console.do(f"/api/sources/docs/report/{source['runs'][0]['run_id']}", {})

    first, page, headers = console.request("GET", told["address"])
    second, _, _ = console.request("GET", told["address"])

    assert (first, second) == (200, 404)
    assert headers.get_content_type() == "text/html"
    assert "docs" in page


def test_a_report_has_an_origin_of_its_own(console: Console, memsync: Memsync) -> None:
    """Should a script ever hide in a name of a report, the console would do and tell what that asks."""
    memsync("run", "docs.yaml")
    (source,) = console.ask("/api/overview")["sources"]
    _, told = console.do(f"/api/sources/docs/report/{source['runs'][0]['run_id']}", {})

    _, _, headers = console.request("GET", told["address"])

    (policy,) = headers.get_all("Content-Security-Policy", [])
    assert policy.split(";")[0] == "sandbox allow-scripts"


def test_the_memory_can_be_searched(console: Console, memsync: Memsync) -> None:
    memsync("run", "docs.yaml")

    hits = console.ask(f"/api/search?query={quote('all of 001.md')}")["hits"]

    assert hits[0]["document_id"] == "001.md"
    assert TEXT_CANARY in hits[0]["text"]
    assert console.ask("/api/search?query=%20")["hits"] == []


def test_a_memory_that_cannot_be_searched_takes_no_hits_away(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """One source of many has lost its memory: those who look for something in the others would find nothing."""
    memsync("run", "docs.yaml")
    docs.configure(memory.url, "lost.yaml", name="lost", destination={"memory_id": "nobodys-a1B2c3D4e5"})
    running = memsync.start("console", ".")
    console = Console(running, running.read_line().split()[-1])

    told = console.ask(f"/api/search?query={quote('all of 001.md')}")
    running.stop_by(signal.SIGTERM)

    assert told["hits"][0]["document_id"] == "001.md"
    assert [problem["source"] for problem in told["problems"]] == ["lost"]
    assert "ResourceNotFoundException" in told["problems"][0]["problem"]


# ------------------------------------------------------------------------------------------------------ it does


def test_a_run_is_the_command_that_is_shown(console: Console, memory: Memory) -> None:
    started = console.start("run")
    done = console.finished(started)

    assert done["typed"].startswith("memsync run ")
    assert done["exit_code"] == 0
    assert done["result"]["status"] == "in_sync"
    assert any("In sync." in line for line in done["lines"])
    assert len(memory.records()) == 3


def test_one_command_of_a_source_at_a_time(console: Console, memory: Memory) -> None:
    """A second one would only find the source taken."""
    memory.play(latency_s=30)
    started = console.start("run")
    console.wait(lambda told: told["sources"][0].get("status") == "locked")  # from here on it heeds a signal

    status, told = console.do("/api/sources/docs/commands", {"verb": "verify"})
    console.do(f"/api/commands/{started['id']}/stop", {})

    assert status == 409
    assert "memsync run" in told["problem"]
    assert console.finished(started)["exit_code"] == 130


def test_a_run_of_another_process_is_seen(console: Console, memory: Memory, memsync: Memsync) -> None:
    """As of one that the clock has started."""
    memory.play(latency_s=30)
    run = memsync.start("run", "docs.yaml")
    run.wait_for_log("scan_finished")

    told = console.wait(lambda told: told["sources"][0].get("progress") is not None)
    run.stop_by(signal.SIGINT)

    assert told["sources"][0]["runs"][0]["status"] == "running"
    assert told["sources"][0]["progress"]["source"] == "docs"


def test_texts_are_on_the_page_of_a_report_and_not_in_what_the_console_is_told(
    console: Console, docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Its own page stays open on a screen that others see."""
    docs.configure(memory.url, reports={"diff_documents": 5})
    docs.write("first.md", "quincunx")
    done = memsync("run", "docs.yaml", "--json")
    (file,) = (docs.state / "runs").glob("*.json")
    diff = json.loads(file.read_bytes())["diff"]
    memory.play(latency_s=30)
    docs.write("second.md")
    run = memsync.start("run", "docs.yaml")
    run.wait_for_log("scan_finished")
    (draft,) = set((docs.state / "runs").glob("*.json")) - {file}
    draft.write_text(json.dumps({**json.loads(draft.read_bytes()), "diff": diff}))  # as if it had got further

    told = console.wait(lambda told: told["sources"][0].get("progress") is not None)
    _, opened = console.do(f"/api/sources/docs/report/{done.report['run_id']}", {})
    _, page, _ = console.request("GET", opened["address"])
    run.stop_by(signal.SIGINT)

    assert "quincunx" in json.dumps(diff)
    assert "quincunx" not in json.dumps(told)
    assert "quincunx" in page


def test_what_was_started_is_stopped_with_the_console_and_loses_nothing(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Who closes the console must not leave processes behind, nor half a sync."""
    running = memsync.start("console", "docs.yaml")
    console = Console(running, running.read_line().split()[-1])
    memory.play(latency_s=30)
    console.start("run")
    memory.wait_for_requests(0)
    console.wait(lambda told: told["sources"][0].get("status") == "locked")  # at first the state is being made

    running.stop_by(signal.SIGTERM)
    memory.play()
    status = memsync("status", "docs.yaml", "--json").source["status"]
    done = memsync("run", "docs.yaml", "--json")

    assert status == "interrupted"
    assert done.exit_code == 0
    assert memory.holds_everything_once()
    assert len(memory.records()) == 3


def test_only_what_the_page_has_a_button_for_can_be_started(console: Console) -> None:
    """Whatever has the token: it is no way to run anything else."""
    bodies: list[object] = [
        *({}, [], "run", {"verb": "rm"}, {"verb": "run", "letters": ["abc"]}, {"verb": "replay", "letters": "abc"}),
        *({"verb": "replay", "letters": ["--all"]}, {"verb": "replay", "letters": ["; ls"]}, {"verb": "drop"}),
        {"verb": "replay", "letters": ["a"] * 501},
    ]
    for body in bodies:
        status, told = console.do("/api/sources/docs/commands", body)
        assert status == 400, body
        assert told["problem"], body
    assert console.ask("/api/overview")["commands"] == []


@pytest.fixture
def letters(docs: Folder, memory: Memory, console: Console, memsync: Memsync) -> Console:
    """A console of a source with two dead letters."""
    memory.play(reject_text="poison")
    docs.write("bad.md", "# Bad\n\nHere is poison.\n")
    docs.write("worse.md", "# Worse\n\nHere is more poison.\n")
    memsync("run", "docs.yaml")
    return console


def test_dead_letters_are_told_without_their_text_until_one_is_opened(letters: Console) -> None:
    told = letters.ask("/api/sources/docs/letters")
    chosen = letters.ask("/api/sources/docs/letters?words=WORSE")
    none = letters.ask("/api/sources/docs/letters?reason=other")
    opened = letters.ask(f"/api/sources/docs/letters/{chosen['letters'][0]['id']}")

    assert told["total"] == told["chosen"] == told["reasons"][0]["count"] == 2
    assert told["reasons"][0]["advice"]
    assert "poison" not in json.dumps(told)
    assert [letter["document"] for letter in chosen["letters"]] == ["worse.md"]
    assert (none["total"], none["chosen"], none["letters"]) == (2, 0, [])
    assert "more poison" in json.dumps(opened["record"])


def test_chosen_letters_are_replayed_and_dropped(letters: Console, memory: Memory) -> None:
    ids = {letter["document"]: letter["id"] for letter in letters.ask("/api/sources/docs/letters")["letters"]}
    memory.play()

    replayed = letters.finished(letters.start("replay", ids["bad.md"]))
    between = letters.ask("/api/sources/docs/letters")
    dropped = letters.finished(letters.start("drop", ids["worse.md"]))

    assert ids["bad.md"] in replayed["typed"]
    assert [letter["document"] for letter in between["letters"]] == ["worse.md"]
    assert "bad.md" in memory.documents()
    assert dropped["exit_code"] == 0
    assert letters.ask("/api/sources/docs/letters")["total"] == 0
    assert "worse.md" not in memory.documents()


def test_a_button_that_is_pressed_twice_starts_one_command(console: Console) -> None:
    """The second would find the source locked, and its failure is what the page would show last."""
    with ThreadPoolExecutor() as pressing:
        answers = list(pressing.map(lambda _: console.do("/api/sources/docs/commands", {"verb": "run"}), range(4)))

    assert sorted(status for status, _ in answers) == [200, 409, 409, 409]
    console.wait(lambda told: told["commands"][0]["ended_at"] is not None)


def test_what_has_not_changed_is_not_read_again(
    letters: Console, docs: Folder, memsync: Memsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open page asks every other second: of 100,000 dead letters each answer took seconds, and others piled up."""
    read = []

    def counted(settings: SourceSettings, **how: Any) -> Any:
        read.append(settings.name)
        return open_source_state(settings, **how)

    for module in ("pipeline.console.sources", "pipeline.runs.status", "pipeline.runs.history"):
        monkeypatch.setattr(f"{module}.open_source_state", counted)
    sources = ConsoleSources([docs.path / "docs.yaml"])
    sources.load()

    async def look() -> tuple[int, int, int]:
        before = len(read)
        (row,), told = await sources.overview(), await sources.letters("docs")
        return row["dead_letters"], told["total"], len(read) - before

    first, again = anyio.run(look), anyio.run(look)
    assert memsync("dead-letters", "drop", "docs.yaml", "--document", "bad.md", "--yes").exit_code == 0
    after = anyio.run(look)

    assert (first[:2], again, after[:2]) == ((2, 2), (2, 2, 0), (1, 1))
    assert first[2] > 0


def test_a_port_that_is_taken_is_said(console: Console, memsync: Memsync) -> None:
    done = memsync("console", "docs.yaml", "--port", str(console.port))

    assert done.exit_code == 2
    assert "--port" in done.stderr
