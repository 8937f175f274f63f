"""The examples for Confluence, Jira, GitHub, Notion, Slack and Zendesk, against servers that answer as theirs do."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from connectors.kit.contract import SourceConnectorContract, SourceWorld, scan_all, scan_refs
from connectors.rest.connector import RestConnector
from pipeline.errors import DocumentVanished, SourceError
from pipeline.model import DocumentId, DocumentRef, ParsedDocument, ScanComplete, ScanError
from pipeline.parsing import Parser
from pipeline.report import SourceReport
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.pipeline.world import AnyWorld, in_place

from .rest_servers.api import FakeApi
from .rest_servers.confluence import Confluence
from .rest_servers.github import GitHub
from .rest_servers.jira import Jira, adf
from .rest_servers.notion import Notion, rich_text
from .rest_servers.slack import Slack
from .rest_servers.zendesk import Zendesk
from .rest_world import VARIABLES, RestWorld, give_secrets, rest_world


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    give_secrets(monkeypatch)


# ----------------------------------------------------------------------------------------------- the contract


@dataclass
class ConfluenceWorld:
    """Folders are spaces."""

    world: RestWorld[Confluence]
    numbers: dict[str, int] = field(default_factory=dict)

    def connector(self) -> RestConnector:
        return self.world.connector()

    def put(self, name: str, content: bytes) -> DocumentId:
        space = name.rpartition("/")[0].replace("/", "-") or "root"
        self.numbers[name] = number = self.world.api.put(space, name, content.decode())
        return DocumentId(f"pages/{self.world.api.pages[number]['spaceId']}/{number}")

    def remove(self, name: str) -> None:
        self.world.api.trash(self.numbers[name])

    def remove_root(self) -> None:
        self.world.api.is_gone = True

    def make_unlistable(self, folder: str) -> None:
        self.world.api.closed.add(self.world.api.space(folder))


@dataclass
class NotionWorld:
    world: RestWorld[Notion]
    ids: dict[str, str] = field(default_factory=dict)

    def connector(self) -> RestConnector:
        return self.world.connector()

    def put(self, name: str, content: bytes) -> DocumentId:
        api = self.world.api
        self.ids[name] = api.put(name, api.block("paragraph", content.decode()))
        return DocumentId(f"pages/{self.ids[name]}")

    def remove(self, name: str) -> None:
        self.world.api.trash(self.ids[name])

    def remove_root(self) -> None:
        self.world.api.is_gone = True

    def make_unlistable(self, folder: str) -> None:
        pytest.skip("a search gives everything or nothing")


@dataclass
class GitHubWorld:
    world: RestWorld[GitHub]
    numbers: dict[str, int] = field(default_factory=dict)

    def connector(self) -> RestConnector:
        return self.world.connector()

    def put(self, name: str, content: bytes) -> DocumentId:
        self.numbers[name] = self.world.api.put(name, content.decode())
        return DocumentId(f"issues/{self.numbers[name]}")

    def remove(self, name: str) -> None:
        self.world.api.remove(self.numbers[name])

    def remove_root(self) -> None:
        self.world.api.is_gone = True

    def make_unlistable(self, folder: str) -> None:
        pytest.skip("issues are listed as a whole")


class RestContract(SourceConnectorContract):
    """Of the contract, what goes for text that comes in JSON."""

    async def test_every_listed_document_can_be_fetched(self, world: SourceWorld) -> None:
        """The content comes whole and unchanged; there are no bytes in JSON that are not text."""
        contents = {world.put("a.md", b"text"): "text", world.put("guide/long.md", b"words " * 9_999): "words " * 9_999}
        connector = world.connector()
        refs = await scan_refs(connector)

        fetched = {document: await connector.fetch(ref) for document, ref in refs.items()}

        assert {document: found.content.decode() for document, found in fetched.items()} == contents
        assert {document: found.ref for document, found in fetched.items()} == refs


class TestConfluenceKeepsTheContract(RestContract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[SourceWorld]:
        async with rest_world(Confluence(), "rest-confluence.yaml") as world:
            yield ConfluenceWorld(world)


class TestNotionKeepsTheContract(RestContract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[SourceWorld]:
        async with rest_world(Notion(), "rest-notion.yaml") as world:
            yield NotionWorld(world)


class TestGitHubKeepsTheContract(RestContract):
    """Its text comes with the listing, which three of the rules are not for."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[SourceWorld]:
        async with rest_world(GitHub(), "rest-github.yaml") as world:
            yield GitHubWorld(world)

    async def test_a_document_edited_after_it_was_listed_is_fetched_as_it_is_now(self, world: SourceWorld) -> None:
        """Here: as it was listed, with the fingerprint of just that."""
        document = world.put("a.md", b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.put("a.md", b"longer text")

        fetched = await connector.fetch(listed)

        assert (fetched.content, fetched.ref) == (b"text", listed)
        assert (await scan_refs(world.connector()))[document].fingerprint != listed.fingerprint

    async def test_a_document_removed_after_it_was_listed_has_vanished(self, world: SourceWorld) -> None:
        """Here: only if it was not listed by this connector, as in a replay."""
        document = world.put("a.md", b"text")
        listed = (await scan_refs(world.connector()))[document]
        world.remove("a.md")

        with pytest.raises(DocumentVanished):
            await world.connector().fetch(listed)

    async def test_no_document_has_vanished_with_a_missing_root(self, world: SourceWorld) -> None:
        document = world.put("a.md", b"text")
        listed = (await scan_refs(world.connector()))[document]
        world.remove_root()

        with pytest.raises(SourceError):
            await world.connector().fetch(listed)


# ------------------------------------------------------------------------------------------- runs of each example


@dataclass
class Runs:
    """Whole runs between an API and a memory."""

    world: RestWorld[Any]
    runs: AnyWorld
    memory: MemoryDestination

    async def do(self) -> SourceReport:
        self.world.requests()
        return await self.runs.do()

    def texts(self) -> list[str]:
        return self.runs.texts()


@asynccontextmanager
async def runs_of(world: RestWorld[Any], connector: RestConnector) -> AsyncIterator[Runs]:
    memory = MemoryDestination()
    runs = AnyWorld(connector, memory)
    async with open_state(None, source="docs", destination="memory", offload=in_place) as runs.state:
        yield Runs(world, runs, memory)


def paths(requests: list[str]) -> list[str]:
    return [request.partition("?")[0] for request in requests]


async def text_of(connector: RestConnector, document: str) -> str:
    """The text that a document becomes."""
    ref = (await scan_refs(connector))[DocumentId(document)]
    (parsed,) = Parser().parse(await connector.fetch(ref))
    assert isinstance(parsed, ParsedDocument)
    return parsed.text


async def test_confluence_a_run_without_changes_lists_and_fetches_nothing() -> None:
    async with rest_world(Confluence(), "rest-confluence.yaml") as world:
        for number in range(5):
            world.api.put("A", f"page {number}", f"<p>text {number}</p>")
        async with runs_of(world, world.connector(page_size=2)) as runs:
            await runs.do()
            assert runs.texts() == [f"text {number}" for number in range(5)]
            report = await runs.do()

            assert paths(world.requests()) == ["GET /wiki/api/v2/spaces"] + ["GET /wiki/api/v2/spaces/1/pages"] * 3
            assert report.documents.unchanged == 5
            sent = len(runs.memory.requests)

            world.api.put("A", "page 3", "<p>edited</p>")
            world.api.trash(2)
            await runs.do()

            assert runs.texts() == ["edited", "text 1", "text 2", "text 4"]
            assert [path for path in paths(world.requests()) if "/pages/" in path] == [
                "GET /wiki/api/v2/pages/5",
                "GET /wiki/api/v2/pages/2",
            ]
            assert len(runs.memory.requests) == sent + 2


async def test_confluence_pages_come_as_readers_see_them() -> None:
    async with rest_world(Confluence(), "rest-confluence.yaml") as world:
        number = world.api.put("A", "Setup.zip", "<h1>Setup</h1><p>Do <b>this</b>.</p>")
        connector = world.connector()

        (ref,) = (await scan_refs(connector)).values()
        document = await connector.fetch(ref)

        assert ref.title == "Setup.zip"
        assert ref.uri == f"https://example.atlassian.net/wiki/spaces/A/pages/{number}/Setup%2Ezip"  # no ZIP archive
        assert Parser().reason_to_skip(ref) is None
        assert document.media_type == "text/html; charset=utf-8"
        assert document.metadata == {"space": "1"}
        assert await text_of(connector, ref.id) == "# Setup\n\nDo **this**."


async def test_confluence_a_space_that_may_not_be_read_keeps_its_pages_and_the_others_change() -> None:
    async with rest_world(Confluence(), "rest-confluence.yaml") as world:
        hidden = world.api.put("closed", "hidden", "<p>hidden</p>")
        gone = world.api.put("open", "gone", "<p>gone</p>")
        world.api.put("open", "kept", "<p>kept</p>")
        async with runs_of(world, world.connector()) as runs:
            await runs.do()
            world.api.closed.add(int(world.api.pages[hidden]["spaceId"]))
            world.api.trash(gone)
            await runs.do()

            assert runs.texts() == ["hidden", "kept"]


async def test_confluence_a_space_that_is_gone_takes_its_pages_along() -> None:
    async with rest_world(Confluence(), "rest-confluence.yaml") as world:
        page = world.api.put("old", "old", "<p>old</p>")
        world.api.put("new", "new", "<p>new</p>")
        async with runs_of(world, world.connector()) as runs:
            await runs.do()
            del world.api.spaces[int(world.api.pages.pop(page)["spaceId"])]
            await runs.do()

            assert runs.texts() == ["new"]


async def test_confluence_a_page_that_moves_to_another_space_is_not_there_twice() -> None:
    """The request for one page finds it wherever it is."""
    async with rest_world(Confluence(), "rest-confluence.yaml") as world:
        page = world.api.put("old", "moved", "<p>moved</p>")
        world.api.put("old", "kept", "<p>kept</p>")
        world.api.put("new", "new", "<p>new</p>")
        async with runs_of(world, world.connector()) as runs:
            await runs.do()
            world.api.pages[page]["spaceId"] = str(world.api.space("new"))
            await runs.do()

            assert runs.texts() == ["kept", "moved", "new"]


async def test_jira_an_issue_that_moves_to_another_project_is_gone() -> None:
    """The request for one issue finds it wherever it is."""
    async with rest_world(Jira(), "rest-jira.yaml") as world:
        numbers = [world.api.put(f"issue {number}", f"text {number}") for number in range(3)]
        async with runs_of(world, world.connector()) as runs:
            await runs.do()
            world.api.move(numbers[1], "OTHER")
            await runs.do()

            assert runs.texts() == ["text 0", "text 2"]


async def test_jira_an_issue_is_its_description_and_its_comments() -> None:
    async with rest_world(Jira(), "rest-jira.yaml") as world:
        number = world.api.put("Crash on start", "It crashes.", "Always.")
        world.api.comment(number, "Same here.")
        connector = world.connector()

        (ref,) = (await scan_refs(connector)).values()
        document = await connector.fetch(ref)

        assert ref.id == f"issues/{number}"
        assert ref.title == "Crash on start"
        assert ref.uri == "https://example.atlassian.net/browse/DOCS-1"
        assert ref.modified_at is not None
        assert document.content.decode() == "It crashes.\n\nAlways.\n\nSame here."
        assert document.metadata == {"status": "Open", "labels": ["docs"], "key": "DOCS-1"}


async def test_jira_edits_comments_and_removals_arrive_for_the_price_of_a_listing() -> None:
    async with rest_world(Jira(), "rest-jira.yaml") as world:
        numbers = [world.api.put(f"issue {number}", f"text {number}") for number in range(5)]
        async with runs_of(world, world.connector(page_size=2)) as runs:
            await runs.do()
            assert (await runs.do()).documents.unchanged == 5
            assert paths(world.requests()) == ["GET /rest/api/3/search/jql"] * 3

            world.api.put("issue 0", "edited")
            world.api.comment(numbers[1], "said later")
            del world.api.issues[numbers[2]]
            await runs.do()

            assert runs.texts() == ["edited", "text 1\n\nsaid later", "text 3", "text 4"]
            assert paths(world.requests()) == [
                *["GET /rest/api/3/search/jql"] * 2,
                f"GET /rest/api/3/issue/{numbers[2]}",
                "GET /rest/api/3/search/jql",  # it is still to be had
            ]


async def test_github_issues_and_comments_are_read_without_pull_requests() -> None:
    async with rest_world(GitHub(), "rest-github.yaml") as world:
        issue = world.api.put("Crash", "It **crashes**.")
        world.api.put("Fix", "a change", is_pull_request=True)
        comment = world.api.comment(issue, "Same here.")
        connector = world.connector()

        refs = await scan_refs(connector)
        document = await connector.fetch(refs[DocumentId(f"issues/{issue}")])

        assert set(refs) == {f"issues/{issue}", f"comments/{comment}"}
        assert document.media_type == "text/markdown; charset=utf-8"
        assert document.metadata == {"state": "open", "labels": ["docs"]}
        assert await connector.locate(DocumentId("issues/2")) is None  # as a scan would not list it


async def test_github_edits_and_removals_arrive_for_the_price_of_a_listing() -> None:
    async with rest_world(GitHub(), "rest-github.yaml") as world:
        issues = [world.api.put(f"issue {number}", f"text {number}") for number in range(5)]
        comment = world.api.comment(issues[0], "a comment")
        async with runs_of(world, world.connector(page_size=2)) as runs:
            await runs.do()
            assert (await runs.do()).documents.unchanged == 6
            listing = "GET /repos/example/handbook/issues"
            assert paths(world.requests()) == [listing] * 3 + [f"{listing}/comments"]

            world.api.put("issue 1", "edited")
            world.api.remove(issues[2])  # says 410
            world.api.issues.pop(issues[3])  # says 404
            world.api.moved[issues.pop()] = issues[0]  # was transferred, and is another issue now
            world.api.issues.pop(max(world.api.issues))
            del world.api.comments[comment]
            await runs.do()

            assert runs.texts() == ["edited", "text 0"]


async def test_github_an_issue_without_a_text_is_a_document_without_records() -> None:
    async with rest_world(GitHub(), "rest-github.yaml") as world:
        world.api.put("Crash", None)
        world.api.put("Other", "text")
        async with runs_of(world, world.connector()) as runs:
            assert (await runs.do()).documents.failed == 0

            assert runs.texts() == ["text"]


async def test_notion_a_page_is_its_blocks_and_those_within_them() -> None:
    async with rest_world(Notion(), "rest-notion.yaml") as world:
        api = world.api
        page = api.put(
            "Setup",
            api.block("heading_2", "First"),
            api.block("bulleted_list_item", "one", api.block("paragraph", "more of one")),
            api.block("bulleted_list_item", "two"),
            api.block("to_do", "done", checked=True),
            api.block("code", "x = 1", language="python"),
            api.block("child_page", "", title="A page of its own"),
            api.block("table_row", "", cells=[rich_text("a|b"), rich_text("c")]),
            *(api.block("paragraph", f"paragraph {number}") for number in range(120)),
        )
        connector = world.connector()

        ref = (await scan_refs(connector))[DocumentId(f"pages/{page}")]
        document = await connector.fetch(ref)

        assert ref.title == "Setup"
        paragraphs = "\n\n".join(f"paragraph {number}" for number in range(120))
        assert document.content.decode() == (
            "## First\n\n- one\n\nmore of one\n\n- two\n- [x] done\n\n```python\nx = 1\n```\n\nA page of its own\n\n"
            f"| a\\|b | c |\n\n{paragraphs}"
        )


async def test_notion_only_pages_that_changed_are_read() -> None:
    async with rest_world(Notion(), "rest-notion.yaml") as world:
        api = world.api
        for number in range(5):
            api.put(f"page {number}", api.block("paragraph", f"text {number}"))
        async with runs_of(world, world.connector(page_size=2)) as runs:
            await runs.do()
            await runs.do()
            assert world.requests() == ["POST /v1/search"] * 3

            page = api.put("page 1", api.block("paragraph", "edited"))
            api.trash(next(iter(api.pages)))
            await runs.do()

            assert runs.texts() == ["edited", "text 2", "text 3", "text 4"]
            assert [path for path in paths(world.requests()) if "blocks" in path] == [f"GET /v1/blocks/{page}/children"]


async def test_notion_a_page_that_was_edited_within_the_minute_is_read_again() -> None:
    """Its time tells the minute: another edit within it would show the same."""
    async with rest_world(Notion(), "rest-notion.yaml") as world:
        api = world.api
        now = datetime.now(UTC).isoformat()
        api.put("page", api.block("paragraph", "text"), at=now)
        async with runs_of(world, world.connector()) as runs:
            await runs.do()
            api.put("page", api.block("paragraph", "edited"), at=now)
            await runs.do()

            assert runs.texts() == ["edited"]


async def test_notion_a_page_that_the_search_misses_is_kept() -> None:
    """Notion does not promise that it finds all."""
    async with rest_world(Notion(), "rest-notion.yaml") as world:
        api = world.api
        api.put("found", api.block("paragraph", "found"))
        missed = api.put("missed", api.block("paragraph", "missed"))
        async with runs_of(world, world.connector()) as runs:
            await runs.do()
            hidden = api.pages[missed] | {"in_trash": True}
            shown, api.pages[missed] = api.pages[missed], hidden
            answer = api.respond

            async def respond(request: web.Request) -> web.StreamResponse:
                api.pages[missed] = hidden if request.path == "/v1/search" else shown
                return await answer(request)

            api.respond = respond  # type: ignore[method-assign]
            report = await runs.do()

            assert report.documents.removed == 0
            assert runs.texts() == ["found", "missed"]


async def test_slack_a_message_is_a_document_with_its_thread() -> None:
    async with rest_world(Slack(), "rest-slack.yaml") as world:
        api = world.api
        general = api.channel("general")
        api.say(api.channel("others", is_member=False), "not for us")
        alone = api.say(general, "alone")
        asked = api.say(general, "a question")
        api.reply(general, asked, "an answer")
        api.say(general, "joined", subtype="channel_join")
        connector = world.connector()

        refs = await scan_refs(connector)
        texts = {ref.id: (await connector.fetch(ref)).content.decode() for ref in refs.values()}

        def written(ts: str) -> str:
            return f"messages/{general}/{ts.replace('.', '%2E')}"

        assert texts == {written(alone): "alone", written(asked): "a question\n\nan answer"}
        ref = refs[DocumentId(written(alone))]
        assert ref.uri == f"https://slack.com/app_redirect?channel={general}&message_ts={alone}"
        assert ref.modified_at == datetime.fromtimestamp(float(alone), UTC)


async def test_slack_edits_replies_and_removals_arrive() -> None:
    """A thread is read on every run, since nothing tells that a reply was edited; a message without one is not."""
    async with rest_world(Slack(), "rest-slack.yaml") as world:
        api = world.api
        general = api.channel("general")
        times = [api.say(general, f"message {number}") for number in range(5)]
        said = api.reply(general, times[4], "a reply")
        async with runs_of(world, world.connector(page_size=2)) as runs:
            await runs.do()
            await runs.do()
            asked = paths(world.requests())
            assert asked.count("GET /api/conversations.history") == 3
            assert asked.count("GET /api/conversations.replies") == 1

            api.messages[general][times[0]]["text"] = "edited"
            del api.messages[general][times[1]]
            del api.messages[general][times[2]]
            said["text"] = "an edited reply"
            await runs.do()

            assert runs.texts() == ["edited", "message 3", "message 4\n\nan edited reply"]
            asked = paths(world.requests())
            assert asked.count("GET /api/conversations.list") == 2  # once more for the two that are missing
            assert asked.count("GET /api/conversations.history") == 4


async def test_slack_a_channel_that_is_archived_takes_its_messages_along() -> None:
    """A scan does not list them any more, though they could still be read."""
    async with rest_world(Slack(), "rest-slack.yaml") as world:
        api = world.api
        old, new = api.channel("old"), api.channel("new")
        api.say(old, "old")
        api.say(new, "new")
        async with runs_of(world, world.connector()) as runs:
            await runs.do()
            api.channels[old]["is_archived"] = True
            await runs.do()

            assert runs.texts() == ["new"]


async def test_slack_a_channel_that_may_not_be_read_keeps_its_messages() -> None:
    async with rest_world(Slack(), "rest-slack.yaml") as world:
        api = world.api
        old, new = api.channel("old"), api.channel("new")
        api.say(old, "old")
        api.say(new, "kept")
        removed = api.say(new, "new")
        async with runs_of(world, world.connector()) as runs:
            await runs.do()
            api.closed.add(old)
            del api.messages[new][removed]
            await runs.do()

            assert runs.texts() == ["kept", "old"]


async def test_slack_says_in_its_own_words_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is no empty source."""
    monkeypatch.setenv("SLACK_TOKEN", "xoxb-other")
    async with rest_world(Slack(), "rest-slack.yaml") as world:
        with pytest.raises(SourceError, match=r"conversations\.list answered with an error: invalid_auth"):
            await scan_all(world.connector())


async def test_zendesk_articles_and_tickets_are_read() -> None:
    async with rest_world(Zendesk(), "rest-zendesk.yaml") as world:
        api = world.api
        article = api.article("How to", "<p>Do <b>this</b>.</p>")
        api.article("Draft", "<p>draft</p>", draft=True)
        ticket = api.ticket("Broken", "It is broken.")
        api.comment(ticket, "Not for customers.", public=False)
        api.comment(ticket, "Mended.")
        connector = world.connector()

        refs = await scan_refs(connector)
        document = await connector.fetch(refs[DocumentId(f"tickets/{ticket}")])

        assert set(refs) == {f"articles/{article}", f"tickets/{ticket}"}
        assert await text_of(connector, f"articles/{article}") == "Do **this**."
        assert document.content.decode() == "It is broken.\n\nMended."
        assert document.metadata == {"status": "open", "tags": ["a"]}


async def test_zendesk_edits_and_removals_arrive_and_nothing_else_is_read() -> None:
    async with rest_world(Zendesk(), "rest-zendesk.yaml") as world:
        api = world.api
        articles = [api.article(f"article {number}", f"<p>text {number}</p>") for number in range(3)]
        tickets = [api.ticket(f"ticket {number}", f"ticket text {number}") for number in range(3)]
        async with runs_of(world, world.connector(page_size=2)) as runs:
            await runs.do()
            await runs.do()
            assert paths(world.requests()) == ["GET /api/v2/help_center/articles"] * 2 + ["GET /api/v2/tickets"] * 2

            api.article("article 0", "<p>edited</p>")
            del api.articles[articles[1]]
            api.comment(tickets[0], "more")
            del api.tickets[tickets[1]]
            await runs.do()

            assert runs.texts() == ["edited", "text 2", "ticket text 0\n\nmore", "ticket text 2"]


# --------------------------------------------------------------------------------------------- wrong or throttled

EXAMPLES: list[tuple[Callable[[], FakeApi], str]] = [
    (Confluence, "rest-confluence.yaml"),
    (Jira, "rest-jira.yaml"),
    (GitHub, "rest-github.yaml"),
    (Notion, "rest-notion.yaml"),
    (Zendesk, "rest-zendesk.yaml"),
]
each_example = pytest.mark.parametrize(("api", "file"), EXAMPLES, ids=[file for _, file in EXAMPLES])


@each_example
async def test_who_is_not_let_in_hears_of_the_variable(
    api: Callable[[], FakeApi], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never of what it holds."""
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "another-canary")
    async with rest_world(api(), file) as world:
        with pytest.raises(SourceError, match=r"does not let us in: 401.*_TOKEN holds") as caught:
            await scan_all(world.connector())

    assert "canary" not in str(caught.value)


@each_example
async def test_a_variable_that_is_not_set_is_named(
    api: Callable[[], FakeApi], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable)
    async with rest_world(api(), file) as world:
        with pytest.raises(SourceError, match=r"_TOKEN, which `source\.auth\.\w+` names, is not set"):
            await scan_all(world.connector())


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, {"Retry-After": "0"}),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "0"}),
        (503, {"Retry-After": "0"}),
    ],
)
@each_example
async def test_who_is_throttled_waits_and_asks_again(
    api: Callable[[], FakeApi], file: str, status: int, headers: dict[str, str]
) -> None:
    async with rest_world(api(), file) as world:
        world.api.refused.append(web.Response(status=status, headers=headers))

        assert await scan_all(world.connector()) == [ScanComplete("")]


@each_example
async def test_thousands_of_documents_are_listed_page_by_page(api: Callable[[], FakeApi], file: str) -> None:
    made = api()
    async with rest_world(made, file) as world:
        for number in range(2_345):
            match made:
                case Confluence():
                    made.spaces[1] = {"id": "1", "key": "A"}
                    page = {"id": str(1000 + number), "title": f"{number}", "spaceId": "1", "status": "current"}
                    links = {"webui": f"/{number}"}
                    made.pages[1000 + number] = {**page, "version": {"number": 1}, "_links": links, "text": ""}
                case Jira():
                    fields = {"summary": f"{number}", "description": adf("text"), "comment": {"comments": []}}
                    fields["project"] = {"key": "DOCS"}
                    made.issues[number] = {"id": str(number), "key": f"DOCS-{number}", "fields": fields}
                case GitHub():
                    made.issues[number] = {"number": number, "title": f"{number}", "body": "text"}
                case Notion():
                    new = made.new_id()
                    made.pages[new] = {"id": new, "archived": False, "in_trash": False, "properties": {}}
                case Zendesk():
                    made.articles[number] = {"id": number, "title": f"{number}", "draft": False, "body": "text"}
        events = await scan_all(world.connector())

        assert len({event.id for event in events if isinstance(event, DocumentRef)}) == 2_345
        assert not any(isinstance(event, ScanError) for event in events)
        assert len(world.requests()) <= 26
