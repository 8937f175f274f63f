"""Sources of several types, as they are, as they fail, and one that never answers."""

import json
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
import yaml

from pipeline.configuration.loading import load_sources
from pipeline.doctor.source import check_source
from pipeline.reporting.examinations import Finding
from tests.connectors.git_world import GIT, without_configuration
from tests.connectors.s3_server import s3_server
from tests.connectors.singer_taps import SCRIPT

FEED = b"""<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>
<item><guid>one</guid><title>One</title><description>Text of one.</description></item></channel></rss>"""


async def examined(folder: Path, source: dict[str, Any], limit_s: float = 60.0) -> dict[str, Finding]:
    """What is found about a source with these settings, by check."""
    file = folder / "docs.yaml"
    file.write_text(yaml.safe_dump({"source": source, "destination": {"endpoint_url": "local"}}))
    (settings,) = load_sources([file])
    return {finding.check: finding for finding in await check_source(settings, limit_s)}


def verdicts(found: dict[str, Finding]) -> dict[str, str]:
    return {check: finding.verdict for check, finding in found.items()}


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = FEED if self.path == "/feed.xml" else json.dumps([{"id": 1, "body": "Text of one."}]).encode()
        self.send_response(200 if self.path in ("/feed.xml", "/pages") else 404)
        self.send_header("Content-Type", "text/xml" if self.path == "/feed.xml" else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


@contextmanager
def pages() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        thread = Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def commit(work: Path) -> None:
    """Make a repository with one document."""
    work.mkdir()
    (work / "a.md").write_text("# One")
    who = ["-c", "user.name=writer", "-c", "user.email=writer@example.com"]
    for arguments in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "a.md"],
        ["commit", "--quiet", "-m", "one"],
    ):
        subprocess.run([GIT, *who, *arguments], cwd=work, check=True)


READ = {"source": "ok", "reading": "ok"}


async def test_rows_of_a_database(tmp_path: Path) -> None:
    """A table that is there is read; one that is not is named."""
    with closing(sqlite3.connect(tmp_path / "wiki.db")) as connection, connection:
        connection.execute("CREATE TABLE page (id INTEGER PRIMARY KEY, body TEXT)")
        connection.execute("INSERT INTO page VALUES (1, 'Text of one.')")
    source = {"type": "sql", "url": "sqlite:///wiki.db", "table": "page", "id": "id", "text": "body"}

    assert verdicts(await examined(tmp_path, source)) == READ
    missing = await examined(tmp_path, {**source, "table": "pages"})

    assert verdicts(missing) == {"source": "problem"}
    assert "pages" in missing["source"].found


async def test_files_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git is a program of its own, which is started from a thread here."""
    without_configuration(monkeypatch)
    commit(tmp_path / "work")

    assert verdicts(await examined(tmp_path, {"type": "git", "url": "work"})) == READ
    assert verdicts(await examined(tmp_path, {"type": "git", "url": "work", "ref": "nowhere"})) == {"source": "problem"}


async def test_objects_of_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket is asked for its first page, not for all that it holds."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    with s3_server() as url:
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        client.create_bucket(Bucket="our-docs")
        client.put_object(Bucket="our-docs", Key="a.md", Body=b"# One")
        client.close()
        source = {"type": "s3", "bucket": "our-docs", "region": "us-east-1", "endpoint_url": url}

        assert verdicts(await examined(tmp_path, source)) == READ
        missing = await examined(tmp_path, {**source, "bucket": "nobodys"})

    assert verdicts(missing) == {"source": "problem"}
    assert "NoSuchBucket" in missing["source"].found


async def test_entries_and_records_of_web_servers(tmp_path: Path) -> None:
    """Both are asked over HTTP; an address that is not there is the usual fault."""
    allowed = {"http": {"allow_private_hosts": True}}
    with pages() as url:
        feed = {"type": "feed", "urls": [f"{url}/feed.xml"], **allowed}
        rest = {
            "type": "rest",
            "base_url": url,
            "resources": [{"name": "pages", "path": "/pages", "id": "id", "text": "body"}],
            **allowed,
        }
        lost = {**rest, "resources": [{"name": "pages", "path": "/nowhere", "id": "id", "text": "body"}]}

        found = [verdicts(await examined(tmp_path, source)) for source in (feed, rest)]
        missing = await examined(tmp_path, lost)

    assert found == [READ, READ]
    assert missing["source"].verdict in ("problem", "warning")
    assert "404" in missing["source"].found


async def test_rows_of_a_tap(tmp_path: Path) -> None:
    """A tap that is no program, or that ends with an error, is told in its own words."""
    missing = await examined(
        tmp_path,
        {"type": "singer", "command": [str(SCRIPT.with_name("nowhere.py"))], "streams": {"pages": {}}},
    )

    assert verdicts(missing) == {"source": "problem"}


async def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """It takes the connection, as a firewall or a proxy that hangs does, and then nothing comes."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/feed.xml"
        source = {"type": "feed", "urls": [url], "http": {"allow_private_hosts": True}}

        found = await examined(tmp_path, source, limit_s=0.3)

    assert verdicts(found) == {"source": "problem"}
    assert found["source"].found == "did not list or read a document within 0.3 s"
