"""Cuts the documents that it is told into chunks, and counts them."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from common import BATCH, Counting, paragraphs
from singer_sdk import Target
from singer_sdk import typing as th
from singer_sdk.contrib.msgspec import MsgSpecReader
from singer_sdk.sinks import BatchSink

SINK = Counting()


class Chunks(BatchSink):
    MAX_SIZE_DEFAULT = BATCH
    validate_schema = False

    def process_batch(self, context: dict[str, Any]) -> None:
        SINK.write(
            [
                (f"{document['path']}#{number}", piece)
                for document in context["records"]
                for number, piece in enumerate(paragraphs(document["text"]))
            ]
        )


class CountingTarget(Target):
    name = "target-counting"
    message_reader_class = MsgSpecReader
    default_sink_class = Chunks
    config_jsonschema = th.PropertiesList(
        th.Property("folder", th.StringType), th.Property("notes", th.StringType, required=True)
    ).to_dict()


began = time.monotonic()
CountingTarget.cli(standalone_mode=False)
notes = Path(json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())["notes"], "target.json")
notes.write_text(json.dumps({"began": began, "ended": time.monotonic(), "written": SINK.written}))
