"""`memsync init`, as somebody meets it who has documents and has read nothing."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import yaml

from pipeline.commands.init import _write
from pipeline.errors import ConfigurationError
from tests.connectors.file_servers import PASSWORD as WEBDAV_PASSWORD
from tests.connectors.file_servers import USER as WEBDAV_USER
from tests.connectors.file_servers import webdav_server
from tests.connectors.git_servers import silent_server
from tests.connectors.imap_servers import PASSWORD as IMAP_PASSWORD
from tests.connectors.imap_servers import pymap_server
from tests.connectors.s3_server import s3_server
from tests.connectors.singer_taps import SCRIPT, ScriptWorld

from .conftest import CREDENTIALS, MEMORY_ID, SECRET_CANARY, Completed, Folder, Memory, Memsync, program
from .terminal import Terminal, on_terminal

HTML = "text/html"


def settings_in(folder: Folder, file: str = "docs.yaml") -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((folder.path / file).read_text())
    return values


@contextmanager
def asked(memsync: Memsync, *arguments: str, **environment: str) -> Iterator[Terminal]:
    """`memsync init` on a terminal; without AWS unless `environment` says otherwise."""
    usual = {"PATH": os.environ["PATH"], "HOME": str(memsync.home), "LANG": "C.UTF-8", "NO_COLOR": "1"}
    here = {**usual, "AWS_EC2_METADATA_DISABLED": "true", **environment}
    with on_terminal([str(program()), "init", *arguments], memsync.folder, here) as terminal:
        yield terminal


# -------------------------------------------------------------------------------------------- on a terminal


def test_a_folder_becomes_a_source_by_a_few_questions(folder: Folder, memsync: Memsync) -> None:
    """The way from documents to a plan, for somebody who presses Enter at what is proposed."""
    folder.write("guide/a.md", "---\nteam: support\n---\n# A title\n\nkumquat\n")
    folder.write("notes.txt", "kumquat")
    folder.write("tool.py", "print()")
    folder.write("logo.png", "")

    with asked(memsync) as terminal:
        terminal.answer("Where are the documents?", "docs")
        terminal.wait_for("4 documents")
        terminal.wait_for("left out: unsupported type .png")
        terminal.answer("documents only: 2", "1")
        terminal.answer("Its name", "handbook")
        terminal.answer("a memory on this machine", "1")
        code = terminal.finish()

    assert code == 0, terminal.shown
    assert "source 'handbook' is valid" in terminal.shown
    assert "Nothing stands in the way of a run." in terminal.shown
    assert "2 to create" in terminal.shown
    assert terminal.shown.rstrip().endswith("memsync run handbook.yaml")
    values = settings_in(folder, "handbook.yaml")
    assert values["source"] == {"type": "filesystem", "path": "docs", "include": ["*.md", "*.txt"]}
    assert values["destination"] == {"type": "agentcore", "endpoint_url": "local"}
    assert memsync("run", "handbook.yaml").exit_code == 0


def test_a_wrong_answer_is_asked_again(folder: Folder, memsync: Memsync) -> None:
    """A typing error must not cost all answers before it."""
    folder.write("a.md")

    with asked(memsync) as terminal:
        terminal.answer("Where are the documents?", "dcos")
        terminal.wait_for("there is no 'dcos' here")
        terminal.answer("Where are the documents?", "docs")
        terminal.answer("Its name", "my docs")
        terminal.wait_for("beginning with a letter or a digit")
        terminal.answer("Its name", "docs")
        terminal.answer("Number", "9")
        terminal.wait_for("a number from 1 to 2")
        terminal.answer("Number", "1")

        assert terminal.finish() == 0, terminal.shown


@pytest.mark.parametrize("question", ["Where are the documents?", "Its name", "Number"])
def test_nothing_is_written_if_it_is_interrupted(question: str, folder: Folder, memsync: Memsync) -> None:
    """Half a file would be taken for a whole one."""
    folder.write("a.md")
    before = folder.snapshot()

    with asked(memsync) as terminal:
        for asking, answer in (("Where are the documents?", "docs"), ("Its name", ""), ("Number", "")):
            terminal.wait_for(asking)
            if asking == question:
                terminal.interrupt("nothing was written")
                break
            terminal.type(f"{answer}\n")
        code = terminal.finish()

    assert code == 130
    assert "Traceback" not in terminal.shown
    assert folder.snapshot() == before


def test_a_memory_is_chosen_from_those_of_the_account(folder: Folder, memory: Memory, memsync: Memsync) -> None:
    """Ids end in ten random characters, which nobody knows by heart."""
    folder.write("a.md")
    memory.create("other-a1B2c3D4e5")
    aws = {"AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": memory.url, "AWS_REGION": "eu-west-1", **CREDENTIALS}

    with asked(memsync, "docs", "--name", "docs", **aws) as terminal:
        shown = terminal.wait_for("Number")
        number = next(line.split()[0] for line in shown.splitlines() if MEMORY_ID in line)
        terminal.type(f"{number}\n")
        code = terminal.finish()

    assert code == 0, terminal.shown
    assert "other-a1B2c3D4e5  (eu-west-1, ACTIVE)" in shown
    assert settings_in(folder)["destination"] == {"type": "agentcore", "memory_id": MEMORY_ID, "region": "eu-west-1"}


def test_a_memory_that_is_not_listed_is_named_by_its_id(folder: Folder, memsync: Memsync) -> None:
    """Who may write to a memory need not be allowed to list them all; a wrong id is asked again, at once."""
    folder.write("a.md")
    nobody = {"AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": "http://127.0.0.1:1", **CREDENTIALS}

    with asked(memsync, "docs", "--name", "docs", **nobody) as terminal:
        terminal.wait_for("the memories in us-east-1 cannot be listed")
        terminal.answer("Number", "2")
        terminal.answer("The memory's id", "handbook")
        terminal.wait_for("ten characters end it")
        terminal.answer("The memory's id", MEMORY_ID)
        terminal.answer("Its AWS region", "eu-west-1")
        code = terminal.finish()

    assert code == 0, terminal.shown
    assert settings_in(folder)["destination"] == {"type": "agentcore", "memory_id": MEMORY_ID, "region": "eu-west-1"}


def test_the_file_can_be_written_although_the_source_does_not_answer(folder: Folder, memsync: Memsync) -> None:
    """A server that is down today must not keep anybody from setting things up."""
    with asked(memsync, "imap://me:word@127.0.0.1:1/", "--name", "mails") as terminal:
        terminal.answer("Which environment variable", "")
        terminal.wait_for("cannot be used")
        terminal.answer("Write the file all the same?", "y")
        terminal.answer("Number", "1")
        code = terminal.finish()

    assert code == 0, terminal.shown
    assert "export MAILS_PASSWORD=..." in terminal.shown
    assert settings_in(folder, "mails.yaml")["source"]["password_variable"] == "MAILS_PASSWORD"


def test_any_type_is_asked_for_what_it_needs(folder: Folder, memsync: Memsync) -> None:
    """A connector that somebody else wrote has no questions of its own."""
    with asked(memsync, "--no-look") as terminal:
        terminal.answer("Where are the documents?", "?")
        shown = terminal.wait_for("Number")
        number = next(line.split()[0] for line in shown.splitlines() if " imap " in line)
        terminal.type(f"{number}\n")
        terminal.answer("host: The server's name", "imap.example.com")
        terminal.answer("user: The name to log in with", "me@example.com")
        terminal.answer("password_variable: the environment variable", "MAIL_PASSWORD")
        terminal.answer("Its name", "mails")
        terminal.answer("Number", "1")
        code = terminal.finish()

    assert code == 0, terminal.shown
    assert settings_in(folder, "mails.yaml")["source"] == {
        "type": "imap",
        "host": "imap.example.com",
        "user": "me@example.com",
        "password_variable": "MAIL_PASSWORD",
    }
    assert "memsync plan mails.yaml" in terminal.shown


def test_an_api_is_asked_for_by_the_address_of_a_listing(folder: Folder, memsync: Memsync) -> None:
    """Nobody types the settings of an API one by one."""
    answer = json.dumps([{"id": 1, "title": "A", "body": "kumquat"}])
    with answering({"/v1/pages": ("application/json", answer)}) as url, asked(memsync, "--type", "rest") as terminal:
        terminal.answer("The address of a listing of the API", f"{url}/v1/pages")
        terminal.answer("Its name", "docs")
        terminal.answer("Number", "1")
        code = terminal.finish()

    assert code == 0, terminal.shown
    assert settings_in(folder)["source"]["base_url"] == f"{url}/v1/"


def test_nothing_is_written_if_a_look_is_interrupted(folder: Folder, memsync: Memsync) -> None:
    """A look can take half a minute, and then be at the wrong place."""
    with silent_server() as server, asked(memsync, f"http://127.0.0.1:{server.port}/", "--name", "docs") as terminal:
        terminal.wait_for("asks 127.0.0.1 what is there")
        terminal.interrupt("nothing was written")

        assert terminal.finish() == 130

    assert not list(folder.path.glob("*.yaml"))


def test_a_database_is_looked_at_by_what_its_address_refers_to(folder: Folder, memsync: Memsync) -> None:
    """The reference itself was sent as the password, or taken for the name of the file."""
    with sqlite3.connect(folder.path / "wiki.db") as database:
        database.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY, body TEXT)")
        database.execute("INSERT INTO pages VALUES (1, 'kumquat')")
    database.close()
    arguments = ("init", "--type", "sql", "--set", "source.url=sqlite:///${env:WIKI_FILE}", "--yes", "--name", "wiki")

    unset = memsync(*arguments)
    done = memsync(*arguments, environment={"WIKI_FILE": "wiki.db"})

    assert unset.exit_code == 1
    assert "the environment variable WIKI_FILE is not set" in unset.stderr
    assert done.exit_code == 0, done.stderr
    assert settings_in(folder, "wiki.yaml")["source"] == {
        "type": "sql",
        "url": "sqlite:///${env:WIKI_FILE}",
        "table": "pages",
        "id": "id",
        "text": "body",
    }


def test_a_table_is_chosen_from_those_of_the_database(folder: Folder, memsync: Memsync) -> None:
    """Names of tables are long, and those of others' tables unknown."""
    with sqlite3.connect(folder.path / "wiki.db") as database:
        database.execute("CREATE TABLE pages (page INTEGER PRIMARY KEY, name TEXT, body TEXT, version INTEGER)")
        database.execute("CREATE TABLE settings (key TEXT PRIMARY KEY, number INTEGER)")
        database.execute("INSERT INTO pages VALUES (1, 'Tickets', '<p>kumquat</p>', 1)")
    database.close()

    with asked(memsync, "--type", "sql") as terminal:
        terminal.answer("The database, such as", "wiki.db")
        shown = terminal.wait_for("Number")
        number = next(line.split()[0] for line in shown.splitlines() if "pages  (page, name, body, version)" in line)
        terminal.type(f"{number}\n")
        terminal.answer("Its name", "")
        terminal.answer("Number", "1")
        code = terminal.finish()

    assert code == 0, terminal.shown
    assert settings_in(folder, "wiki.yaml")["source"] == {
        "type": "sql",
        "url": "sqlite:///wiki.db",
        "table": "pages",
        "id": "page",
        "text": "body",
        "title": "name",
        "version": "version",
        "media_type": "html",
    }


# -------------------------------------------------------------------------------------- without a terminal


def test_nothing_is_asked_without_a_terminal(folder: Folder, memsync: Memsync) -> None:
    """A job of a build server would wait for ever."""
    folder.write("a.md")

    done = memsync("init", "docs")

    assert done.exit_code == 2
    assert "--name NAME" in done.stderr
    assert "--memory-id ID (or --endpoint-url local)" in done.stderr
    assert "--yes" in done.stderr
    assert not list(folder.path.glob("*.yaml"))


def test_options_say_everything(folder: Folder, memory: Memory, memsync: Memsync) -> None:
    """As in a script that sets up a dozen sources."""
    folder.write("a.md")
    options = ["--type", "filesystem", "--name", "docs", "--memory-id", MEMORY_ID, "--region", "us-east-1"]
    sets = [
        "--set",
        "source.path=../docs",
        "--set",
        "chunking.max_chars=1000",
        "--set",
        'record.metadata={"team": "x"}',
    ]

    done = memsync("init", *options, *sets, "--endpoint-url", memory.url, "--out", "sources/handbook.yaml")

    assert done.exit_code == 0, done.stderr
    values = settings_in(folder, "sources/handbook.yaml")
    assert values["source"] == {"type": "filesystem", "path": "../docs"}
    assert values["chunking"] == {"max_chars": 1000}
    assert values["record"]["metadata"] == {"team": "x"}
    assert memsync("run", "sources").exit_code == 0
    assert len(memory.records()) == 1


def test_what_stands_in_the_way_of_a_run_comes_before_it(folder: Folder, memory: Memory, memsync: Memsync) -> None:
    """The plan asks no memory, and looks fine; the first run would fail, perhaps at night."""
    folder.write("a.md")

    done = memsync("init", "docs", "--yes", "--memory-id", "nowhere-a1B2c3D4e5", "--region", "us-east-1",
                   "--endpoint-url", memory.url)  # fmt: skip

    assert done.exit_code == 0, done.stderr
    assert "✗ memory" in done.stdout
    assert "1 to create" in done.stdout
    assert done.stdout.rstrip().endswith("Next: memsync doctor docs.yaml")


def test_a_file_is_never_overwritten(folder: Folder, memsync: Memsync) -> None:
    """It may hold somebody's work of a day."""
    folder.write("a.md")
    (folder.path / "docs.yaml").write_text("# mine")

    answers = [
        memsync("init", "docs", "--yes"),
        memsync("init", "docs", "--yes", "--name", "docs"),
        memsync("init", "docs", "--yes", "--out", "docs.yaml"),
    ]

    assert [done.exit_code for done in answers] == [2, 2, 2]
    assert all("docs.yaml is there already" in done.stderr for done in answers)
    assert (folder.path / "docs.yaml").read_text() == "# mine"


def test_a_file_that_comes_at_the_last_moment_is_not_overwritten(tmp_path: Path) -> None:
    """Between the first look for it and the writing, questions are answered."""
    (tmp_path / "docs.yaml").write_text("# mine")

    with pytest.raises(ConfigurationError, match="is there already"):
        _write(tmp_path / "docs.yaml", "name: docs")

    assert (tmp_path / "docs.yaml").read_text() == "# mine"
    assert [file.name for file in tmp_path.iterdir()] == ["docs.yaml"]


def test_a_large_source_is_not_planned_before_one_is_asked_for(folder: Folder, memsync: Memsync) -> None:
    """A plan reads every document: of a bucket of millions, for hours."""
    for number in range(2001):
        (folder.documents / f"{number}.md").touch()

    done = memsync("init", "docs", "--yes")

    assert done.exit_code == 0, done.stderr
    assert "at least 2,000 documents" in done.stdout
    assert "to create" not in done.stdout
    assert "memsync plan docs.yaml" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "There is no folder or file 'nowhere'"),
        ([f"me:{SECRET_CANARY}@host/wiki"], "There is no folder or file of that name"),
        ([f"https://me:{SECRET_CANARY}@127.0.0.1/docs"], "should have no user and password"),
        (["gopher://example.com/"], "gopher:// is not known"),
        (["docs", "--type", "filesytem"], "did you mean `filesystem`?"),
        (["docs", "--set", "source.pth=x"], "unknown key `source.pth`; did you mean `path`?"),
        (["docs", "--set", "chunking.max_chars=1"], "`chunking.max_chars` is 1; it should be"),
        (["docs", "--set", "nonsense"], "should be SECTION.KEY=VALUE"),
        (["docs", "--memory-id", "short"], '`destination.memory_id` is "short"'),
        (["--type", "imap", "--no-look"], "--set source.host=VALUE is needed"),
        (["docs", "--out", "docs/a.md/x.yaml"], "cannot be written"),
        (["https://example.com/feed?token=abc"], "looks like a secret"),
        (["https://example.com/group.atom?feed_token=abc"], "looks like a secret"),
        (["https://example.com/docs/?key=abc"], "looks like a secret"),
        (["https://example.com/docs/#access_token=abc"], "looks like a secret"),
    ],
)
def test_a_fault_is_named_and_nothing_is_written(
    arguments: list[str], said: str, folder: Folder, memsync: Memsync
) -> None:
    """Whoever made it should not have to guess."""
    folder.write("a.md")
    before = folder.snapshot()

    done = memsync("init", *arguments, "--yes")

    assert done.exit_code == 2
    assert said in done.stderr
    assert folder.snapshot() == before


def test_a_secret_of_a_site_is_not_sent_another_way_into_the_memory(folder: Folder, memsync: Memsync) -> None:
    """The address of a page is the id of its document, whoever says it; of a feed's only a digest is kept."""
    feed = memsync("init", "https://example.com/feed.xml?token=abc", "--no-look", "--yes")
    site = memsync("init", "https://example.com/docs/?token=abc", "--no-look", "--yes")

    assert """MEMSYNC_SOURCE__URLS to '["ADDRESS"]'""" in feed.stderr
    assert "MEMSYNC_SOURCE" not in site.stderr
    assert "would stand in the memory" in site.stderr


def test_a_source_that_cannot_be_read_is_an_error_that_says_how_to_go_on(folder: Folder, memsync: Memsync) -> None:
    """A file that looks well and never worked is found out weeks later."""
    address = "imap://me@127.0.0.1:1/"

    failed = memsync("init", address, "--yes", "--set", "source.password_variable=PATH")
    written = memsync("init", address, "--yes", "--set", "source.password_variable=PATH", "--no-look")

    assert failed.exit_code == 1
    assert "--no-look writes it without a look" in failed.stderr
    assert written.exit_code == 0
    assert settings_in(folder, "me.yaml")["source"]["host"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "more"),
    [
        (f"postgresql://reader:{SECRET_CANARY}@127.0.0.1:1/wiki", ["--set", "source.table=t", "--set", "source.id=id"]),
        (f"imaps://me:{SECRET_CANARY}@imap.example.com/", []),
        (f"sftp://me:{SECRET_CANARY}@files.example.com/docs", []),
    ],
)
def test_a_password_in_an_address_gets_nowhere(address: str, more: list[str], folder: Folder, memsync: Memsync) -> None:
    """Files are committed and shared; `check_laws` looks at what is printed."""
    done = memsync("init", address, "--yes", "--no-look", "--name", "docs", *more)

    assert done.exit_code == 0, done.stderr
    assert SECRET_CANARY not in (folder.path / "docs.yaml").read_text()
    assert "export DOCS_PASSWORD=..." in done.stdout


def test_the_variable_for_a_password_can_be_named(folder: Folder, memsync: Memsync) -> None:
    """It is often there already, under a name that others chose."""
    variable = ["--set", "source.password_variable=MAIL_SECRET"]

    done = memsync("init", "imaps://me:word@imap.example.com/", "--yes", "--no-look", "--name", "docs", *variable)

    assert "export MAIL_SECRET=..." in done.stdout
    assert settings_in(folder)["source"]["password_variable"] == "MAIL_SECRET"


def test_hostile_names_are_harmless(folder: Folder, memsync: Memsync) -> None:
    """A file's name can hold what drives a terminal, or ends a comment; `check_laws` looks at what is printed."""
    folder.write("a\x1b[31m\n# b: c.md", "kumquat")
    folder.write("x.\x1b[2J", "kumquat")

    done = memsync("init", "docs", "--yes")

    assert done.exit_code == 0, done.stderr
    assert (folder.path / "docs.yaml").read_text().replace("\n", "").isprintable()


def test_what_programs_fill_is_left_out(folder: Folder, memsync: Memsync) -> None:
    """Thousands of readmes of packages would hide the ten documents that matter."""
    folder.write("a.md")
    for number in range(30):
        folder.write(f"node_modules/package{number}/README.md")

    done = memsync("init", "docs", "--yes")

    assert settings_in(folder)["source"]["exclude"] == ["node_modules/"]
    assert "1 document," in done.stdout


def test_editors_are_given_the_schema(folder: Folder, memsync: Memsync) -> None:
    """The first line of the file names it, beside the file; one that is there already is left alone."""
    folder.write("a.md")
    begun = memsync("init", "docs", "--yes", "--name", "one")
    first = (folder.path / "memsync.schema.json").read_text()
    (folder.path / "memsync.schema.json").write_text("{}")
    again = memsync("init", "docs", "--yes", "--name", "two")

    assert "wrote one.yaml, and memsync.schema.json beside it, for editors\n" in begun.stdout
    assert "wrote two.yaml\n" in again.stdout
    for name in ("one", "two"):
        line = (folder.path / f"{name}.yaml").read_text().splitlines()[0]
        assert line == "# yaml-language-server: $schema=memsync.schema.json"
    jsonschema.Draft202012Validator(json.loads(first)).validate(yaml.safe_load((folder.path / "one.yaml").read_text()))
    assert (folder.path / "memsync.schema.json").read_text() == "{}"


def test_the_file_itself_is_no_document(folder: Folder, memsync: Memsync) -> None:
    """It lies among the documents where somebody works in their folder."""
    folder.write("data.yaml", "kumquat: 1")
    in_documents = Memsync(folder.documents, memsync.home)

    in_documents("init", ".", "--yes", "--name", "me")
    planned = in_documents("plan", "me.yaml", "--json")

    assert planned.documents["seen"] == 1


# -------------------------------------------------------------------------------------------- types of sources


@contextmanager
def answering(pages: dict[str, tuple[str, str]]) -> Iterator[str]:
    """A web server on this machine; `{base}` in a page is its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = pages.get(self.path.partition("?")[0], ("", ""))
            content = body.replace("{base}", f"http://{self.headers['Host']}").encode()
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def page(title: str) -> tuple[str, str]:
    text = f"All of {title}, kumquat and more of it, for a page has to have some text."
    return HTML, f"<html><head><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>"


SITEMAP = '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url><loc>{base}/docs/a</loc></url></urlset>'
ITEM = "<item><title>A</title><guid>1</guid><description>kumquat</description></item>"
FEED = f'<rss version="2.0"><channel>{ITEM}</channel></rss>'
LINKS = HTML, '<html><body><p>Where to go from here, kumquat.</p><a href="/docs/a">a</a></body></html>'


def in_sync(done: Completed, memsync: Memsync, file: str = "docs.yaml", **environment: str) -> dict[str, Any]:
    """See that what was written can be run; return what the run said of documents."""
    assert done.exit_code == 0, done.stderr
    ran = memsync("run", file, "--json", environment=environment)
    assert ran.exit_code == 0, ran.stderr
    assert ran.records["created"] >= 1
    return ran.documents


def test_a_git_repository(folder: Folder, memsync: Memsync) -> None:
    """A clone is a folder as well: which of the two is meant, only its owner knows."""
    folder.write("a.md")
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@example.com", "-C", str(folder.documents)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "Begin"]):
        subprocess.run([*git, *command], check=True)
    folder.write("b.md")

    as_files = memsync("init", "docs", "--yes", "--name", "files")
    as_commits = memsync("init", "docs", "--yes", "--type", "git", "--name", "commits")

    assert in_sync(as_files, memsync, "files.yaml")["seen"] == 2
    assert in_sync(as_commits, memsync, "commits.yaml")["seen"] == 1
    assert settings_in(folder, "commits.yaml")["source"]["url"] == "./docs"


def test_one_file(folder: Folder, memsync: Memsync) -> None:
    """A table or an archive is a source of many documents."""
    folder.write("rows [1].csv", "id,title\n1,kumquat\n2,quince\n")
    folder.write("other.md")

    assert in_sync(memsync("init", "docs/rows [1].csv", "--yes", "--name", "docs"), memsync)["seen"] == 2


def test_a_site_by_its_sitemap(folder: Folder, memsync: Memsync) -> None:
    """Its own list of pages is better than following links."""
    pages = {"/docs/": LINKS, "/docs/a": page("A"), "/sitemap.xml": ("application/xml", SITEMAP)}
    with answering(pages) as url:
        done = memsync("init", f"{url}/docs/", "--yes", "--name", "docs")

        assert in_sync(done, memsync)["seen"] == 1

    source = settings_in(folder)["source"]
    assert source["sitemaps"] == [f"{url}/sitemap.xml"]
    assert source["prefixes"] == [f"{url}/docs/"]


def test_a_site_without_a_sitemap(folder: Folder, memsync: Memsync) -> None:
    """Most have none."""
    with answering({"/docs/": LINKS, "/docs/a": page("A")}) as url:
        done = memsync("init", f"{url}/docs/", "--yes", "--name", "docs")

        assert in_sync(done, memsync)["seen"] == 2

    assert settings_in(folder)["source"]["start"] == [f"{url}/docs/"]


@pytest.mark.parametrize(
    ("address", "setting"),
    [("docs/", "start"), ("sitemap.xml", "sitemaps"), ("robots.txt", "sitemaps"), ("feed", "urls")],
)
def test_without_a_look_a_web_address_is_told_by_its_name(
    address: str, setting: str, folder: Folder, memsync: Memsync
) -> None:
    """A site that cannot be reached from here can be from where it is run."""
    done = memsync("init", f"https://docs.example.com/{address}", "--yes", "--no-look", "--name", "docs")

    assert done.exit_code == 0, done.stderr
    assert settings_in(folder)["source"][setting] == [f"https://docs.example.com/{address}"]


def test_a_feed_whatever_its_address_is_called(folder: Folder, memsync: Memsync) -> None:
    """It is told by what answers: `/news` can be anything."""
    with answering({"/news": ("text/xml", FEED)}) as url:
        done = memsync("init", f"{url}/news", "--yes", "--name", "docs")

        assert in_sync(done, memsync)["seen"] == 1

    assert settings_in(folder)["source"]["type"] == "feed"


def test_an_api(folder: Folder, memsync: Memsync) -> None:
    """Its settings are the longest to write by hand; its secret must not get into the file."""
    item = {"key": 7, "subject": "A", "description": "<p>kumquat</p>", "updated_at": "2024-01-01T00:00:00Z"}
    answer = json.dumps({"meta": {"count": 1}, "data": {"tickets": [item]}})
    with answering({"/api/tickets": ("application/json", answer)}) as url:
        done = memsync("init", f"{url}/api/tickets?token={SECRET_CANARY}&open=1", "--yes", "--name", "docs")

        assert settings_in(folder)["source"]["auth"]["key_variable"] == "DOCS_KEY"
        assert in_sync(done, memsync, DOCS_KEY=SECRET_CANARY)["seen"] == 1

    assert SECRET_CANARY not in (folder.path / "docs.yaml").read_text()
    (resource,) = settings_in(folder)["source"]["resources"]
    assert resource == {
        "name": "tickets",
        "path": "tickets",
        "params": {"open": "1"},
        "records": "data.tickets",
        "id": "key",
        "title": "subject",
        "text": "description",
        "modified_at": "updated_at",
        "format": "html",
    }


def test_a_bucket(folder: Folder, memsync: Memsync) -> None:
    """The address is as the AWS command line has it."""
    keys = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET_CANARY}
    with s3_server() as url:
        store = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        store.create_bucket(Bucket="handbook")
        store.put_object(Bucket="handbook", Key="docs/a.md", Body=b"kumquat")
        store.put_object(Bucket="handbook", Key="other/b.md", Body=b"kumquat")
        store.close()

        there = ["--set", f"source.endpoint_url={url}", "--set", "source.region=us-east-1"]
        done = memsync("init", "s3://handbook/docs/", "--yes", "--name", "docs", *there)

        assert in_sync(done, memsync, **keys)["seen"] == 1


def test_a_mailbox(folder: Folder, memsync: Memsync) -> None:
    """The password goes along in the address for the look, and no further."""
    with pymap_server() as server:
        user = server.new_user()
        address = f"imap://{user}:{IMAP_PASSWORD}@127.0.0.1:{server.port}/"

        done = memsync("init", address, "--yes", "--name", "docs", "--set", "source.security=none")

        assert done.exit_code == 0, done.stderr
        assert IMAP_PASSWORD not in (folder.path / "docs.yaml").read_text()
        assert "0 documents" in done.stdout


def test_a_share(folder: Folder, memsync: Memsync) -> None:
    """Also files on servers have endings that tell what they are."""
    folder.write("a.md")
    folder.write("b.png")
    with webdav_server(folder.documents) as server:
        protocol, _, rest = server.url.partition("://")
        password = WEBDAV_PASSWORD.replace(" ", "%20")

        done = memsync("init", f"{protocol}://{WEBDAV_USER}:{password}@{rest}/", "--yes", "--name", "docs")

        variable = settings_in(folder)["source"]["option_variables"]["password"]
        assert in_sync(done, memsync, **{variable: WEBDAV_PASSWORD})["seen"] == 1
    assert settings_in(folder)["source"]["exclude"] == ["*.png"]
    assert WEBDAV_PASSWORD not in (folder.path / "docs.yaml").read_text()


def test_a_singer_tap(folder: Folder, memsync: Memsync, tmp_path: Path) -> None:
    """What has no address is set up by its settings."""
    world = ScriptWorld(tmp_path / "rows")
    world.add("a", text="kumquat")
    sets = {
        "command": json.dumps([sys.executable, "-S", str(SCRIPT)]),
        "config": json.dumps({"folder": str(world.folder)}),
        "discovers": "false",
        "streams": "{pages: {text: text}}",
    }

    done = memsync(
        "init", "--type", "singer", "--yes", "--name", "docs", *(f"--set=source.{key}={sets[key]}" for key in sets)
    )

    assert in_sync(done, memsync)["seen"] == 1
