"""A git that fails at any of its calls."""

import os

import pytest

from .git_world import GIT, GitWorld

# The answer breaks off although git itself goes on waiting for more questions.
HALF = 'mkfifo "$0.$$"; exec 3<&0; "$GIT" "$@" <&3 >"$0.$$" & exec dd bs=1 count=%d <"$0.$$" 2>/dev/null'
FAULTS = {
    "code 1": "exit 1",
    "code 128": "echo 'fatal: said so' >&2; exit 128",
    "killed": "kill -9 $$",
    "nothing": "exit 0",
    "garbage": "echo garbage; exit 0",
    "many lines": "yes no | head -n 4000; exit 0",
    "one long line": "head -c 9000 /dev/zero | tr '\\0' x; exit 0",
    "another's id": "echo 0000000000000000000000000000000000000000; exit 0",
    "another's answer": "echo 0000000000000000000000000000000000000000 blob 3; echo abc; exit 0",
    "says that it is missing": "while read -r line; do echo $line missing; done; exit 0",
    "10 bytes": HALF % 10,
    "60 bytes": HALF % 60,
    "400 bytes": HALF % 400,
    "other words": '"$GIT" "$@" | sed -u \'s/guide/gulde/g; s/text/tent/g\'; exit 0',
    "other numbers": '"$GIT" "$@" | sed -u "s/ 1/ 2/g"; exit 0',
}


def install_faulty_git(world: GitWorld, monkeypatch: pytest.MonkeyPatch, fault: str, when: str) -> None:
    """Put a git before the real one that fails at the call of this number, or from then on (`3` and `3-`)."""
    folder = world.folder / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "calls").unlink(missing_ok=True)
    number, comparison = when.removesuffix("-"), "-ge" if when.endswith("-") else "-eq"
    script = folder / "git"
    script.write_text(
        f'#!/bin/sh\nGIT={GIT}\necho >>"{folder}/calls"\n'
        f'if [ $(wc -l <"{folder}/calls") {comparison} {number} ]; then\n{FAULTS[fault]}\nfi\nexec "$GIT" "$@"\n'
    )
    script.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
