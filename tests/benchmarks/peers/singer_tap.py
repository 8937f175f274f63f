"""Says each document below a folder that is not older than the newest of the last run."""

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from singer_sdk import Stream, Tap
from singer_sdk import typing as th
from singer_sdk.contrib.msgspec import MsgSpecWriter

SCHEMA = th.PropertiesList(
    th.Property("path", th.StringType),
    th.Property("modified_at", th.DateTimeType),
    th.Property("text", th.StringType),
).to_dict()


class Documents(Stream):
    name = "documents"
    schema = SCHEMA
    primary_keys = ("path",)
    replication_key = "modified_at"
    documents = 0

    def get_records(self, context: Any) -> Iterable[dict[str, Any]]:
        known = self.get_starting_timestamp(context)
        for file in sorted(Path(self.config["folder"]).rglob("*.md")):
            modified_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
            if known is None or modified_at >= known:
                self.documents += 1
                yield {
                    "path": str(file),
                    "modified_at": modified_at.isoformat(),
                    "text": file.read_text(encoding="utf-8"),
                }


class FolderTap(Tap):
    name = "tap-folder"
    message_writer_class = MsgSpecWriter
    config_jsonschema = th.PropertiesList(
        th.Property("folder", th.StringType, required=True), th.Property("notes", th.StringType, required=True)
    ).to_dict()

    def discover_streams(self) -> list[Stream]:
        return [Documents(self)]

    def sync_all(self) -> None:
        began = time.monotonic()
        super().sync_all()
        documents = sum(stream.documents for stream in self.streams.values())
        Path(self.config["notes"], "tap.json").write_text(json.dumps({"began": began, "documents": documents}))


FolderTap.cli()
