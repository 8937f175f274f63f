"""What the page shows of the sources, read out of their state. Nothing here writes, and nothing asks a source."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.configuration.loading import load_sources
from pipeline.configuration.settings import STATE_FILE, SourceSettings
from pipeline.errors import SyncError
from pipeline.letters import to_json
from pipeline.model import DeadLetter
from pipeline.reporting.histories import PastRunRow
from pipeline.reporting.reasons import reason_of
from pipeline.runs.changed_files import FileLooks, Look, Snapshot, look_at
from pipeline.runs.history import find_report, past_runs
from pipeline.runs.parts import open_source_state
from pipeline.runs.status import status_row
from pipeline.runs.upkeep import search_source

RUNS_SHOWN = 60
LETTERS_SHOWN_MAX = 200  # of those that a filter leaves; their total is told
HITS_SHOWN = 20
# Times of the schedule come by without any change of the state: so old may what is shown of them be.
ROW_AGE_MAX_S = 60.0

Json = dict[str, Any]
Written = tuple[Look | None, ...]


class _Row(NamedTuple):
    """What was found of a source, at `read_at` by the clock that never jumps, when its files were as `written`."""

    written: Written
    read_at: float
    row: Json


class _Letters(NamedTuple):
    """The dead letters of a source, the last first and without their records, as of `written`."""

    source: str
    written: Written
    letters: Sequence[DeadLetter]


class NoSuchSource(LookupError):
    """The page names a source that there is not, or not any more."""


@dataclass(slots=True)
class ConsoleSources:
    """The sources below `paths`, as their files are now. A file that becomes faulty leaves what was read before.

    A page asks for the same every other second, and a source may have very many dead letters: what has not changed
    since is not read again.
    """

    paths: Sequence[Path]
    problem: str | None = None
    _settings: Mapping[str, SourceSettings] = field(default_factory=dict)
    _looks: FileLooks = field(init=False)
    _files: Snapshot = field(default_factory=dict)
    _rows: dict[str, _Row] = field(default_factory=dict)
    _last_letters: _Letters | None = None  # a page shows those of one source

    def __post_init__(self) -> None:
        self._looks = FileLooks(self.paths)

    def load(self) -> None:
        """Read the files.

        Raises:
            ConfigurationError: they are faulty.
        """
        files = self._looks.take()  # before they are read: they may change
        self._settings = {settings.name: settings for settings in load_sources(self.paths)}
        self._files = files
        self._rows, self._last_letters = {}, None

    def refresh(self) -> None:
        """Read the files again if they have changed; `problem` tells what is wrong with them since."""
        if self._looks.take() == self._files:
            return
        try:
            self.load()
        except SyncError as error:
            self.problem = str(error)
        else:
            self.problem = None

    def find(self, name: str) -> SourceSettings:
        try:
            return self._settings[name]
        except KeyError:
            raise NoSuchSource(name) from None

    async def overview(self) -> list[Json]:
        return [await self._row(settings) for settings in self._settings.values()]

    async def _row(self, settings: SourceSettings) -> Json:
        written, now = _written(settings), time.monotonic()
        known = self._rows.get(settings.name)
        if known is not None and known.written == written and now - known.read_at < ROW_AGE_MAX_S:
            return dict(known.row)
        row = await _read_row(settings)
        self._rows.pop(settings.name, None)
        if row["runs"] and row["runs"][0]["status"] != "running":  # that may end without a word
            self._rows[settings.name] = _Row(written, now, row)
        return dict(row)

    async def runs(self, name: str) -> list[PastRunRow]:
        return await past_runs(self.find(name), RUNS_SHOWN)

    async def report(self, name: str, run_id: str | None = None) -> Json:
        """The report of a run; of one that is at work, what it has come to.

        Raises:
            SyncError: there is none.
        """
        _, report = await find_report(self.find(name), run_id)
        return report

    async def letters(self, name: str, *, reason: str = "", words: str = "") -> Json:
        """The dead letters whose reason is `reason` and whose document or message has `words`; "": any."""
        letters = await self._letters(self.find(name))
        reasons: dict[str, Json] = {}
        for letter in letters:
            group = reasons.setdefault(letter.code, {"code": letter.code, "count": 0, "advice": _advice(letter)})
            group["count"] += 1
        sought = words.casefold()
        chosen = [
            letter
            for letter in letters
            if reason in ("", letter.code)
            and any(sought in text.casefold() for text in (letter.document_id, letter.message))
        ]
        return {
            "total": len(letters),
            "chosen": len(chosen),
            "reasons": sorted(reasons.values(), key=lambda group: (-group["count"], group["code"])),
            "letters": [_head(letter) for letter in chosen[:LETTERS_SHOWN_MAX]],
        }

    async def letter(self, name: str, letter_id: str) -> Json | None:
        """A dead letter with its record, and so with text of the document."""
        settings = self.find(name)
        documents = [letter.document_id for letter in await self._letters(settings) if letter.id == letter_id]
        async with open_source_state(settings, is_read_only=True) as state:
            found = next((letter for letter in await state.letters(documents) if letter.id == letter_id), None)
        return None if found is None else json.loads(to_json(found))

    async def _letters(self, settings: SourceSettings) -> Sequence[DeadLetter]:
        written, known = _written(settings), self._last_letters
        if known is not None and (known.source, known.written) == (settings.name, written):
            return known.letters
        async with open_source_state(settings, is_read_only=True) as state:
            letters = await state.letters(with_records=False)
        last_first = sorted(letters, key=lambda letter: -letter.last_failed_at)
        self._last_letters = _Letters(settings.name, written, last_first)
        return last_first

    async def search(self, query: str, name: str | None) -> Json:
        """What the memories find, the best first, and which could not be asked; of all sources, or of one."""
        hits, problems = [], []
        for settings in [self.find(name)] if name else self._settings.values():
            try:
                hits += [asdict(hit) for hit in await search_source(settings, query, HITS_SHOWN)]
            except SyncError as error:
                problems.append({"source": settings.name, "problem": str(error)})
        return {"hits": sorted(hits, key=lambda hit: -hit["score"])[:HITS_SHOWN], "problems": problems}


async def _read_row(settings: SourceSettings) -> Json:
    about = {
        "name": settings.name,
        "type": settings.source.type,
        "file": str(settings.file),
        "memory": settings.destination.memory_id,
        "schedule": settings.schedule,
    }
    try:
        row = asdict(await status_row(settings, time.time()))
        runs = await past_runs(settings, RUNS_SHOWN)
    except SyncError as error:
        return {**about, "problem": str(error), "runs": []}
    return {**row, **about, "problem": None, "runs": [asdict(run) | {"report": bool(run.report)} for run in runs]}


def _written(settings: SourceSettings) -> Written:
    """What differs once the state, or the reports, have been written to."""
    state = settings.state_folder / STATE_FILE
    return tuple(map(look_at, (state, state.with_name(f"{STATE_FILE}-wal"), settings.reports_folder)))


def _advice(letter: DeadLetter) -> str:
    return " ".join(reason_of(letter))


def _head(letter: DeadLetter) -> Json:
    return {
        "id": letter.id,
        "document": letter.document_id,
        "stage": letter.stage,
        "code": letter.code,
        "message": letter.message,
        "attempts": letter.attempts,
        "first_failed_at": letter.first_failed_at,
        "last_failed_at": letter.last_failed_at,
    }
