"""STS, IAM and Service Quotas as far as memsync asks them, on a free port of this machine: what they answer is set."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

ACCOUNT = "210987654321"
ROLE = f"arn:aws:sts::{ACCOUNT}:assumed-role/memsync/a-session"


class AwsStub(ThreadingHTTPServer):
    """Made by `aws_stub`. `asked` are the actions and their parameters."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.caller_arn = ROLE
        self.denied_actions: set[str] = set()
        self.quotas: dict[str, float] = {}
        self.errors: dict[str, str] = {}
        self.asked: list[tuple[str, Mapping[str, list[str]]]] = []

    def answer(self, action: str, parameters: Mapping[str, list[str]]) -> tuple[int, str]:
        self.asked.append((action, parameters))
        if action in self.errors:
            return 403, _error(action, self.errors[action])
        if action == "GetCallerIdentity":
            said = f"<Arn>{self.caller_arn}</Arn><UserId>AROA:a-session</UserId><Account>{ACCOUNT}</Account>"
            return 200, _result(action, said)
        if action == "SimulatePrincipalPolicy":
            names = [values[0] for name, values in parameters.items() if name.startswith("ActionNames.")]
            return 200, _result(action, f"<EvaluationResults>{''.join(map(self._decision, names))}</EvaluationResults>")
        assert action == "ListServiceQuotas", action
        return 200, json.dumps({"Quotas": [{"QuotaCode": code, "Value": rate} for code, rate in self.quotas.items()]})

    def _decision(self, name: str) -> str:
        decision = "implicitDeny" if name.partition(":")[2] in self.denied_actions else "allowed"
        return f"<member><EvalActionName>{name}</EvalActionName><EvalDecision>{decision}</EvalDecision></member>"


class _Handler(BaseHTTPRequestHandler):
    server: AwsStub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        target = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        parameters = {} if target else parse_qs(body)
        status, said = self.server.answer(target or parameters["Action"][0], parameters)
        self.send_response(status)
        self.send_header("Content-Length", str(len(said.encode())))
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


def _result(action: str, said: str) -> str:
    return f"<{action}Response><{action}Result>{said}</{action}Result></{action}Response>"


def _error(action: str, code: str) -> str:
    if action == "ListServiceQuotas":
        return json.dumps({"__type": code, "Message": "words of AWS"})
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>words of AWS</Message></Error></ErrorResponse>"


@contextmanager
def aws_stub() -> Iterator[AwsStub]:
    with AwsStub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
