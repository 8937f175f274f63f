"""Secrets that stand in a file by reference: looked up where they are, by a run, and shown by nothing."""

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.connectors.s3_server import s3_server

from .conftest import CREDENTIALS, SECRET_CANARY, TEXT_CANARY, Folder, Memory, Memsync

# A tap that shows what it was told, as a careless one may, and fails if that is not the secret.
TAP = """\
import json, sys
config = json.load(open(sys.argv[sys.argv.index("--config") + 1]))
if config["token"] != "{secret}":
    sys.exit("wrong token: " + config["token"])
print("logged in with " + config["token"], file=sys.stderr)
if config.get("fails"):
    sys.exit("refused " + config["token"])
schema = {{"type": "object", "properties": {{"id": {{"type": "string"}}, "text": {{"type": "string"}}}}}}
print(json.dumps({{"type": "SCHEMA", "stream": "notes", "schema": schema, "key_properties": ["id"]}}))
print(json.dumps({{"type": "RECORD", "stream": "notes", "record": {{"id": "1", "text": "a note, {text}"}}}}))
"""


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """AWS with secrets in it, as far as they are about it."""
    with s3_server() as url:
        session = boto3.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
        for service in ("secretsmanager", "ssm"):
            client: Any = session.client(service, endpoint_url=url, config=Config(proxies={}))
            if service == "ssm":
                client.put_parameter(Name="/notes/token", Value=SECRET_CANARY, Type="SecureString")
            else:
                client.create_secret(Name="notes", SecretString=json.dumps({"token": SECRET_CANARY, "port": 5432}))
                client.create_secret(Name="plain", SecretString=SECRET_CANARY)
                client.create_secret(Name="binary", SecretBinary=b"\xff")
            client.close()
        yield url


def configure(docs: Folder, memory: Memory, reference: str, **config: Any) -> None:
    """A source that needs the secret; `docs.yaml` holds the reference."""
    (docs.path / "tap.py").write_text(TAP.format(secret=SECRET_CANARY, text=TEXT_CANARY))
    docs.configure(
        memory.url,
        source={
            "type": "singer",
            "path": None,
            "command": [sys.executable, str(docs.path / "tap.py")],
            "config": {"token": reference, **config},
            "discovers": False,
            "streams": {"notes": {}},
        },
    )
    text = (docs.path / "docs.yaml").read_text()
    (docs.path / "docs.yaml").write_text(text.replace("  path: null\n", ""))


def environment(aws: str, **variables: str) -> dict[str, str]:
    return {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": aws,
        "AWS_ENDPOINT_URL_SSM": aws,
        "NO_PROXY": "127.0.0.1",
        **variables,
    }


@pytest.mark.parametrize(
    "reference",
    [
        "${env:NOTES_TOKEN}",
        "${file:token.txt}",
        "${aws-sm:notes#token}",
        "${aws-sm:plain}",
        "${ssm:/notes/token}",
        "${keyring:notes/reader@example.com}",
    ],
)
def test_a_run_looks_a_secret_up_and_shows_it_nowhere(
    reference: str, docs: Folder, memory: Memory, memsync: Memsync, aws: str
) -> None:
    """The laws that hold of every command here: the secret is in no output. Nor may it be in any file."""
    configure(docs, memory, reference)
    variables = environment(aws, PYTHON_KEYRING_BACKEND="keyrings.alt.file.PlaintextKeyring")
    if "env:" in reference:
        variables["NOTES_TOKEN"] = SECRET_CANARY
    if "file:" in reference:
        (docs.path / "token.txt").write_text(f"{SECRET_CANARY}\n")
    if "keyring:" in reference:
        store_in_keyring(memsync)

    # All commands once; what differs from store to store is how a run comes by the value.
    commands = ("validate", "status", "explain", "plan", "run", "verify") if "#" in reference else ("run",)
    for command in commands:
        done = memsync(command, "docs.yaml", environment=variables)
        assert done.exit_code == 0, (command, done.stderr)

    (record,) = memory.records()
    assert TEXT_CANARY in record.text
    for path in docs.path.rglob("*"):
        if path.is_file() and path.name not in ("tap.py", "token.txt"):
            assert SECRET_CANARY.encode() not in path.read_bytes(), path


def store_in_keyring(memsync: Memsync) -> None:
    """As `keyring set` does, for the user that the tests play."""
    subprocess.run(
        [sys.executable, "-m", "keyring", "set", "notes", "reader@example.com"],
        input=SECRET_CANARY,
        text=True,
        check=True,
        capture_output=True,
        env={"HOME": str(memsync.home), "PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring"},
    )


def test_a_tap_that_shows_its_secret_shows_it_to_nobody(
    docs: Folder, memory: Memory, memsync: Memsync, aws: str
) -> None:
    """What a program of others says when it fails goes into the report, and reports go into tickets."""
    configure(docs, memory, "${aws-sm:notes#token}", fails=True)

    done = memsync("run", "docs.yaml", "--json", environment=environment(aws))

    assert done.exit_code == 1
    assert "refused ${aws-sm:notes#token}" in done.error


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("${env:NOTES_TOKEN}", "the environment variable NOTES_TOKEN is not set; set it"),
        ("${file:nope}", "the file nope cannot be read: No such file or directory"),
        ("${aws-sm:nope}", "AWS does not give ${aws-sm:nope}: ResourceNotFoundException"),
        ("${aws-sm:notes#nope}", "has no key 'nope'"),
        ("${aws-sm:plain#token}", "is no JSON object"),
        ("${aws-sm:binary}", "is binary; store it as text"),
        ("${ssm:/nope}", "AWS does not give ${ssm:/nope}: ParameterNotFound"),
        ("${keyring:notes/nobody}", "keyring set notes nobody"),
    ],
)
def test_a_secret_that_cannot_be_had_is_named_with_its_place_and_the_cure(
    reference: str, said: str, docs: Folder, memory: Memory, memsync: Memsync, aws: str
) -> None:
    """At night, nobody should have to guess which of five secrets it was."""
    configure(docs, memory, reference)
    variables = environment(aws, PYTHON_KEYRING_BACKEND="keyrings.alt.file.PlaintextKeyring")

    done = memsync("run", "docs.yaml", "--json", environment=variables)

    assert (done.exit_code, memory.requests) == (1, 0)
    assert "docs.yaml:" in done.error
    assert "`source.config.token`: " in done.error
    assert said in done.error
    assert memsync("status", "docs.yaml", environment=variables).exit_code == 0


def test_a_store_that_is_not_reached_fails_the_run_in_time(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    configure(docs, memory, "${ssm:/notes/token}")

    done = memsync("run", "docs.yaml", "--json", environment=environment("http://127.0.0.1:9"))

    assert done.exit_code == 1
    assert "AWS could not be asked for ${ssm:/notes/token}" in done.error


class Api(BaseHTTPRequestHandler):
    """Answers with one record whoever has the secret."""

    def do_GET(self) -> None:
        is_known = self.headers["Authorization"] == f"Bearer {SECRET_CANARY}"
        answer = json.dumps([{"id": 1, "text": f"A record, {TEXT_CANARY}."}] if is_known else []).encode()
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def api() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_api_takes_its_token_by_reference(
    docs: Folder, memory: Memory, memsync: Memsync, aws: str, api: str
) -> None:
    """Not only from a variable of the environment, which every process of the user can read."""
    source = {
        "type": "rest",
        "base_url": api,
        "auth": {"type": "bearer", "token": "${aws-sm:notes#token}"},
        "resources": [{"name": "notes", "path": "/notes", "text": "text"}],
        "http": {"allow_private_hosts": True},
    }
    docs.configure(memory.url, source=source)
    text = (docs.path / "docs.yaml").read_text()
    (docs.path / "docs.yaml").write_text(text.replace("  path: docs\n", ""))

    done = memsync("run", "docs.yaml", "--json", environment=environment(aws))

    assert (done.exit_code, len(memory.records())) == (0, 1), done.error


def test_a_database_takes_its_password_by_reference(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Where a URL with a password is refused, one with a reference is the way."""
    database = docs.path / "wiki.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY, text TEXT)")
        connection.execute("INSERT INTO pages VALUES (1, ?)", (f"A page, {TEXT_CANARY}.",))
    connection.close()
    docs.configure(
        memory.url, source={"type": "sql", "url": "sqlite:///${env:WIKI_DATABASE}", "table": "pages", "id": "id"}
    )
    text = (docs.path / "docs.yaml").read_text()
    (docs.path / "docs.yaml").write_text(text.replace("  path: docs\n", ""))

    done = memsync("run", "docs.yaml", "--json", environment={**CREDENTIALS, "WIKI_DATABASE": str(database)})
    refused = memsync(
        "run",
        "docs.yaml",
        "--json",
        environment={
            **CREDENTIALS,
            "MEMSYNC_SOURCE__URL": "postgresql+psycopg://reader:${env:PW}@127.0.0.1:9/wiki",
            "PW": SECRET_CANARY,
        },
    )

    assert (done.exit_code, len(memory.records())) == (0, 1), done.stderr
    assert refused.exit_code == 1
    assert "docs.yaml" not in refused.error  # the settings were right; it is the database that does not answer
