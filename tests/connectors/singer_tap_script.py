"""A Singer tap that reads a file, and can be told to go wrong at any of its lines. Run by path, with its own options.

Its configuration names a `folder`, where `rows.json` has the rows by stream, each with a number `seq` that rises with
each edit. `fault.json` beside it says what happens at which line; `runs.jsonl` keeps how it was called.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROWS_PER_STATE = 3
FIELDS = {"id": ["string", "integer", "null"], "text": ["null", "string"], "seq": ["integer"]}

options = argparse.ArgumentParser()
for name in ("--config", "--catalog", "--state"):
    options.add_argument(name)
options.add_argument("--discover", action="store_true")
told = options.parse_args()
config = json.loads(Path(told.config).read_text())
folder = Path(config["folder"])
state = json.loads(Path(told.state).read_text()) if told.state else {}
catalog = json.loads(Path(told.catalog).read_text()) if told.catalog else None
with (folder / "runs.jsonl").open("a") as runs:
    mode = Path(told.config).stat().st_mode & 0o777
    call = {"argv": sys.argv, "pid": os.getpid(), "config": config, "mode": mode, "state": state, "catalog": catalog}
    runs.write(json.dumps({**call, "discovers": told.discover, "path": told.config}) + "\n")
rows = json.loads((folder / "rows.json").read_text())
fault_file = folder / "fault.json"
fault = json.loads(fault_file.read_text()) if fault_file.exists() else {}


def schema() -> dict[str, Any]:
    fields = config.get("fields") or {name: {"type": types} for name, types in FIELDS.items()}
    return {"type": "object", "properties": fields}


def write(line: bytes) -> None:
    sys.stdout.buffer.write(line)


def say(message: dict[str, Any]) -> None:
    write(json.dumps(message).encode() + b"\n")


def stop(kind: str, message: dict[str, Any]) -> None:
    """End, or do nothing more, if `kind` is of that kind."""
    sys.stdout.flush()
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "exit 1":
        sys.exit(1)
    elif kind == "early end":
        os._exit(0)
    elif kind == "raises":
        raise ValueError(f"{config.get('password')} in {message}")
    elif kind == "half":
        write(json.dumps(message).encode()[:-9])
        sys.stdout.flush()
        os._exit(0)
    elif kind == "silent":
        child = subprocess.Popen(["sleep", "3600"])
        (folder / "child").write_text(str(child.pid))
        time.sleep(3600)


def spoil(kind: str, message: dict[str, Any]) -> None:
    """Print something else before `message`."""
    if kind == "garbage":
        write(b"Reading... 50 %\n")
    elif kind == "no message":
        write(b'["RECORD"]\n')
    elif kind == "batch":
        say({"type": "BATCH", "stream": "pages", "manifest": ["file:///tmp/a"]})
    elif kind == "no number":
        write(b'{"type": "RECORD", "stream": "pages", "record": {"id": NaN}}\n')
    elif kind == "huge":
        write(b'{"type": "STATE", "value": "' + b"x" * 300_000 + b'"}\n')
    elif kind == "invalid UTF-8":
        write(b'{"type": "RECORD", "stream": "pages", "record": {"id": "a", "text": "\xff\xfe"}}\n')
    elif kind == "no schema":
        say({"type": "RECORD", "stream": "others", "record": {}})
        say({"type": "RECORD", "stream": "pages", "record": "none"})
    elif kind == "other key":
        say({"type": "SCHEMA", "stream": "pages", "schema": schema(), "key_properties": ["seq"]})
    elif kind == "no id":
        say({"type": "RECORD", "stream": "pages", "record": {"id": None, "text": "of nobody", "seq": 0}})
    elif kind == "id twice" and message["type"] == "RECORD":
        text = message["record"]["text"].partition(",")[0] + ", version 0"
        say({**message, "record": {**message["record"], "text": text}})


def messages() -> Iterator[dict[str, Any]]:
    bookmarks = dict(state.get("bookmarks", {}))
    selected = {
        entry["tap_stream_id"]: entry.get("replication_method")
        for entry in (catalog or {"streams": []})["streams"]
        if any(each["breadcrumb"] == [] and each["metadata"].get("selected") for each in entry["metadata"])
    }
    for stream, its_rows in rows.items():
        if catalog is not None and stream not in selected:
            continue
        yield {
            "type": "SCHEMA",
            "stream": stream,
            "schema": schema(),
            "key_properties": config.get("key", ["id"]),
        }
        after = bookmarks.get(stream, -1)
        for number, row in enumerate(sorted(its_rows, key=lambda row: row["seq"])):
            if row["seq"] > after:
                yield {"type": "RECORD", "stream": stream, "record": row}
                bookmarks[stream] = row["seq"]
                if number % config.get("rows_per_state", ROWS_PER_STATE) == 0:
                    yield {"type": "STATE", "value": {"bookmarks": dict(bookmarks), "currently_syncing": stream}}
    yield {"type": "STATE", "value": {"bookmarks": bookmarks}}


if told.discover:
    entries = [
        {
            "tap_stream_id": name,
            "stream": name,
            "schema": schema(),
            "metadata": [{"breadcrumb": [], "metadata": {}}],
        }
        for name in rows
    ]
    say({"streams": entries})
    sys.exit(0)
for line, message in enumerate(messages()):
    if fault.get("line") == line:
        (folder / "struck").touch()
        stop(fault["kind"], message)
        spoil(fault["kind"], message)
    say(message)
