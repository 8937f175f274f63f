"""Somebody who reads a page with a terminal beside it, and types what it says.

The memory is in AWS as far as pages and settings say: variables lead to servers of this machine.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeVar

import yaml

from tests.fakes.receiver import Received

from .aws_stub import AwsStub
from .conftest import CREDENTIALS, PROCESS_TIMEOUT_S, Completed, Memory, Running, check_laws, program
from .pages import YAML, Block, blocks_of

SCHEDULERS = {"schedule", "watch"}
Thing = TypeVar("Thing")

STAY_UP = {"local", "console", *SCHEDULERS}
SIGNS_OF_A_SCHEDULER = ("health_served", "process_ended")

HANDBOOK = blocks_of("README.md", YAML)[0].text
DOCUMENTS = 20


class Reader:
    """Types in `folder`. `typed` is what came of each command, as the page has it."""

    def __init__(self, root: Path, memory: Memory, aws: AwsStub) -> None:
        self.folder = root / "work"
        self.folder.mkdir(parents=True)
        self.memory = memory
        self.typed: dict[str, Completed] = {}
        self.words: dict[str, str] = {}  # of the page, and what stands in their place
        self.up: Running | None = None
        self.first_line = ""  # that this one has said
        self.received = Received()  # by the service that notices go to
        self.asked: list[str] = []  # of the API that documents come from
        self._open = ExitStack()
        self.environment = {
            "PATH": f"{program().parent}:{os.environ['PATH']}",
            "HOME": str(root),
            "LANG": "C.UTF-8",
            "BROWSER": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
            "MEMSYNC_DESTINATION__SETTLE_S": "0",  # AWS would be given 90 s to list what was written
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": memory.url,
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": memory.url,
            "AWS_ENDPOINT_URL_STS": aws.url,
            "AWS_ENDPOINT_URL_IAM": aws.url,
            "AWS_ENDPOINT_URL_SERVICE_QUOTAS": aws.url,
            **CREDENTIALS,
        }

    # ------------------------------------------------------------------------------------------ what is there

    @property
    def documents(self) -> Path:
        """Where the README's YAML finds them."""
        return self.folder.parent / "handbook"

    def write(self, name: str, text: str) -> None:
        file = self.documents / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def has_documents(self) -> None:
        self.write("tickets.md", "# Tickets\n\nWe hand over a ticket with a note.\n\nThe note says who was called.\n")
        for number in range(1, DOCUMENTS):
            self.write(f"faq/{number}.md", f"# Question {number}\n\nThe answer is {number}.\n")

    def has_handbook(self) -> None:
        """Documents, and the README's YAML for them: alone, and in a folder of sources."""
        self.has_documents()
        (self.folder / "handbook.yaml").write_text(HANDBOOK)
        sources = self.folder / "sources"
        sources.mkdir()
        (sources / "handbook.yaml").write_text(HANDBOOK.replace("../handbook", "../../handbook"))

    def has_synced(self) -> None:
        self.has_handbook()
        self.types("memsync run handbook.yaml")

    def opens(self, thing: AbstractContextManager[Thing]) -> Thing:
        """Have `thing` open until the page is read."""
        return self._open.enter_context(thing)

    def leaves(self) -> None:
        self.stops()
        self._open.close()

    # ---------------------------------------------------------------------------------------------- what is typed

    def types(self, command: str, *, as_on_page: str = "") -> Completed:
        """Run the command in a shell; what is left up by the one before is stopped first.

        `as_on_page` is how the page has it, if not like this.
        """
        self.stops()
        script = self.with_own_words(command)
        if exported := re.fullmatch(r"export (\w+)=(.*)", script):
            self.environment[exported[1]] = shlex.split(exported[2])[0]
            done = Completed(0, "", "")
        elif name_of(command) in STAY_UP:
            done = self._starts(script, name_of(command))
        else:
            ran = subprocess.run(
                ["bash", "-uc", script],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                timeout=PROCESS_TIMEOUT_S,
                check=False,
            )
            done = Completed(ran.returncode, ran.stdout, ran.stderr)
            if name_of(command):
                check_laws(done, name_of(command))
        self.typed[as_on_page or command] = done
        return done

    def with_own_words(self, command: str) -> str:
        for word, own in self.words.items():
            command = command.replace(word, own)
        return command

    def stops(self) -> None:
        """Ctrl-C, for what stays up."""
        running, self.up = self.up, None
        if running:
            with running.process as process:
                try:
                    done = running.stop_by(signal.SIGINT)
                finally:
                    process.kill()
            assert done.exit_code == 0, (running.process.args, done)

    def _starts(self, script: str, name: str) -> Completed:
        process = subprocess.Popen(
            ["bash", "-uc", f"exec {script}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.up = Running(process, name)
        if name in SCHEDULERS:
            sign = self.up.wait_for_log(*SIGNS_OF_A_SCHEDULER)
            if "url" in sign:  # once it has answered, it heeds signals too
                urllib.request.urlopen(f"{sign['url']}/healthz").close()
        else:
            self.first_line = self.up.read_line()
            assert self.first_line, self.up.finish()
        return Completed(0, self.first_line, "")

    # ---------------------------------------------------------------------------------------------- what is copied

    def copies(self, block: Block) -> None:
        """A YAML block that is a whole file becomes one, of the source's name."""
        settings = yaml.safe_load(block.text)
        if isinstance(settings, Mapping) and {"name", "source", "destination"} <= settings.keys():
            (self.folder / f"{settings['name']}.yaml").write_text(block.text)

    def runs_python(self, block: Block) -> Completed:
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", self.with_own_words(block.text)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            timeout=PROCESS_TIMEOUT_S,
            check=False,
        )
        return Completed(ran.returncode, ran.stdout, ran.stderr)


def name_of(command: str) -> str:
    """The memsync command in it, such as `run`; empty for another program's."""
    words = shlex.split(command)
    return words[1] if words[:1] == ["memsync"] else ""
