"""A report as one HTML file, made from the report alone, that needs nothing else and lets nothing in.

Whatever comes from outside (names of documents, messages of servers) is made harmless in one place: every value that
the template writes goes through `printable` and is escaped. The page's policy allows its own style and script, by
their digests, and nothing else.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError
from markupsafe import Markup

from pipeline.errors import StateError
from pipeline.events import DeletesWithheld
from pipeline.report import DocumentCounts, RecordCounts, RequestCounts, SourceReport
from pipeline.reporting.charts import (
    Buckets,
    Chart,
    requests_chart,
    spans_chart,
    steps_chart,
    trend_chart,
)
from pipeline.reporting.histories import PastRunRow, status_words
from pipeline.reporting.recorder import RUNNING
from pipeline.reporting.summary import Note, notes_of_run, verdict_of_run
from pipeline.reporting.text import amount, duration, moment, printable

Json = Mapping[str, Any]
Tone = Literal["good", "warning", "bad", "neutral"]

TREND_RUNS_MAX = 50
COARSE_POINTS_MAX = 100  # what can be told apart on a page
COARSE_FROM_S = 1.0
CHARTED_FROM_S = 3.0  # a shorter run has no course to speak of

_TONES: dict[str, Tone] = {"in_sync": "good", "failed": "bad", RUNNING: "neutral"}  # the others: warning
_SIGNS: dict[Tone, str] = {"good": "✓", "warning": "!", "bad": "✗", "neutral": "…"}
_VERBS = {"run": "run", "replay": "replay", "repair": "verify --repair"}
_STAGES = {
    "prepare": "Opening state and memory",
    "catch_up": "Catching up with the memory",
    "list": "Listing the source",
    "read": "Reading and comparing",
    "write": "Creating and updating",
    "delete": "Deleting",
    "close": "Ending",
}
_KINDS = {
    "failed": "bad",
    "added": "good",
    "changed": "changed",
    "removed": "warning",
    "withheld": "warning",
    "renamed": "neutral",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and what it counts; `detail` says more of it."""

    value: str
    label: str
    detail: str = ""
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart with its words: for those who see it, and `told` for those who do not."""

    title: str
    chart: Chart
    told: str
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class ShownDiff:
    """How the text of one document has changed; `before` is how it was called.

    `added` and `removed` count the lines that are shown, `left_out` says what is not.
    """

    kind: str
    document: str
    before: str | None
    added: int
    removed: int
    records: Sequence[Json]
    left_out: str


def render_page(report: Json, history: Sequence[PastRunRow] = ()) -> str:
    """Return the page of a report. `history` holds the last runs of its source, the newest first.

    Raises:
        StateError: the report lacks what belongs into one, or has something else in its place.
    """
    try:
        return _page(report, history)
    except (LookupError, TypeError, ValueError, AttributeError, TemplateError) as error:
        raise StateError(
            "The report cannot be shown: it is not as memsync writes them, so somebody or something has changed it."
            " Those of other runs can be shown."
        ) from error


def _page(report: Json, history: Sequence[PastRunRow]) -> str:
    account = _account(report)
    style, script = _part("report.css"), _part("report.js")
    headline = _headline(report, account)
    tone = _tone(report, headline)
    page = _environment().get_template("report.html.j2")
    return page.render(
        policy=f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)};"
        " base-uri 'none'; form-action 'none'",
        # Both are files of this package.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        report=report,
        account=account,
        tone=tone,
        sign=_SIGNS[tone],
        headline=headline,
        story=_story(report),
        notes=_notes(report, account),
        figures=list(_figures(report, account)),
        plots=list(_plots(report, history)),
        kinds=_KINDS,
        diffs=list(_diffs(report)),
        diff_notes=list(_diff_notes(report)),
        listed=sum(len(some["first"]) for some in report["documents"].values()),
        concerned=sum(some["total"] for some in report["documents"].values()),
        skipped=sorted(account.documents.skipped.items(), key=lambda item: (-item[1], item[0])),
        history=history,
        settings=list(_flat(report["settings"])),
        moment=moment,
        duration=duration,
        amount=amount,
        status_words=status_words,
        tone_of=lambda past: _TONES.get(past, "warning"),
    )


# ------------------------------------------------------------------------------------------- making it harmless


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("pipeline.reporting", "page"),
        autoescape=True,
        finalize=_harmless,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _harmless(value: Any) -> Any:
    """`value` as it may be shown: no control character, nothing that turns the direction of what follows."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)


@cache
def _part(name: str) -> str:
    return (files("pipeline.reporting") / "page" / name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


# ------------------------------------------------------------------------------------------------ what it says


def _account(report: Json) -> SourceReport:
    """The account of the run, as it was when it was written; a newer version may have counted more."""
    told = report["account"]
    counts = {
        "documents": _known(DocumentCounts, told["documents"]),
        "records": _known(RecordCounts, told["records"]),
        "requests": _known(RequestCounts, told["requests"]),
    }
    account: SourceReport = _known(SourceReport, {**told, **counts, "status": _status(report)})
    return account


def _known(kind: Any, told: Json) -> Any:
    return kind(**{each.name: told[each.name] for each in fields(kind) if each.name in told})


def _status(report: Json) -> Any:
    return "interrupted" if report["status"] == RUNNING else report["status"]


def _headline(report: Json, account: SourceReport) -> str:
    if report["status"] == RUNNING:
        return "Still at work."
    return verdict_of_run(account, _typed_verb(report))


def _tone(report: Json, headline: str) -> Tone:
    """Never better than the headline, which says "In sync" only if the counts bear it out."""
    tone = _TONES.get(report["status"], "warning")
    return "warning" if tone == "good" and not headline.startswith("In sync") else tone


def _typed_verb(report: Json) -> Literal["run", "replay"]:
    return "replay" if report["verb"] == "replay" else "run"


def _story(report: Json) -> str:
    began = f"`memsync {_VERBS[report['verb']]}` began {moment(report['started_at'])} on {report['machine']}"
    lasted = duration(report["seconds"])
    if report["ended_at"] is not None:
        return f"{began} and took {lasted}."
    if report["status"] == RUNNING:
        return f"{began}. This is what it had done after {lasted}."
    return f"{began} and did not come to its end, as if it was killed. This is what it had done after {lasted}."


def _notes(report: Json, account: SourceReport) -> list[Note]:
    if report["status"] == RUNNING:
        return []
    guard = report["guard"]
    withheld = None
    if guard is not None:
        is_of_asked = guard.get("is_of_asked", False)  # which an older version did not write
        withheld = DeletesWithheld(guard["reason"], guard["removed"], guard["known"], is_of_asked=is_of_asked)
    return notes_of_run(account, report["file"], _typed_verb(report), withheld)


def _figures(report: Json, account: SourceReport) -> Iterator[Figure]:
    documents, records, requests = account.documents, account.records, account.requests
    yield Figure(f"{documents.seen:,}", "documents seen", f"{documents.unchanged:,} unchanged")
    for count, label, tone in (
        (documents.added, "added", "neutral"),
        (documents.changed, "changed", "neutral"),
        (documents.renamed, "renamed", "neutral"),
        (documents.removed, "removed", "neutral"),
        (documents.failed, "failed", "bad"),
    ):
        if count:
            yield Figure(f"{count:,}", f"documents {label}", tone=tone)  # type: ignore[arg-type]
    written = records.created + records.updated + records.deleted
    details = ((records.created, "created"), (records.updated, "updated"), (records.deleted, "deleted"))
    yield Figure(f"{written:,}", "records written", ", ".join(f"{count:,} {word}" for count, word in details if count))
    if letters := (report["dead_letters"] or {}).get("total", 0):
        yield Figure(f"{letters:,}", "dead letters" if letters != 1 else "dead letter", "outstanding", "warning")
    if records.pending:
        yield Figure(f"{records.pending:,}", "records waiting", "in the outbox", "warning")
    again = ((requests.throttled, "throttled"), (requests.retried, "unanswered"))
    yield Figure(f"{requests.sent:,}", "requests", ", ".join(f"{count:,} {word}" for count, word in again if count))
    yield Figure(duration(report["seconds"]), "in all")


# A report of an earlier version has no `diff`.


def _diffs(report: Json) -> Iterator[ShownDiff]:
    names = {renamed["id"]: renamed["before"] for renamed in report["documents"]["renamed"]["first"]}
    for shown in (report.get("diff") or {}).get("documents", ()):
        lines = [line for record in shown["records"] for line in record["lines"]]
        left_out = ((shown["lines_left_out"], "more line"), (shown["records_left_out"], "more record"))
        yield ShownDiff(
            kind=shown["outcome"],
            document=shown["document"],
            before=names.get(shown["document"]),
            added=sum(line.startswith("+") for line in lines),
            removed=sum(line.startswith("-") for line in lines),
            records=shown["records"],
            left_out=" and ".join(amount(count, words) for count, words in left_out if count),
        )


def _diff_notes(report: Json) -> Iterator[str]:
    """What is to be said of the texts that are shown, and of those that are not."""
    diff = report.get("diff")
    if diff is None:
        return
    shown = len(diff["documents"])
    if shown:
        some = f"{amount(shown, 'document')}, the first of more" if diff["has_more"] else amount(shown, "document")
        yield f"{some}: what the memory had before this run, and what it has now."
    if count := diff["records_of_earlier_run"]:
        yield (
            f"{amount(count, 'record')} {'was' if count == 1 else 'were'} left in the outbox by an interrupted run and"
            f" sent by this one. How {'its text' if count == 1 else 'their texts'} changed is not known."
        )
    if diff["problem"]:
        yield f"Not every old text could be read. {diff['problem']}"


def _flat(settings: Json, before: str = "") -> Iterator[tuple[str, str]]:
    """The settings as `section.key` and value."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", _setting(value)


def _setting(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return ", ".join(map(_setting, value)) or "[]"
        case {}:
            return "{}"
        case _:
            return str(value)


# ---------------------------------------------------------------------------------------------- what it draws


def _plots(report: Json, history: Sequence[PastRunRow]) -> Iterator[Plot]:
    seconds = report["seconds"]
    timeline = _coarse(report["timeline"])
    buckets = Buckets(timeline["bucket_s"], seconds)
    is_long = seconds >= CHARTED_FROM_S
    if is_long and any(timeline["records"]):
        rates = buckets.rates(timeline["records"])
        mean = sum(timeline["records"]) / max(seconds, 0.001)
        yield Plot(
            "Records written a second",
            steps_chart(buckets, rates, "records", "records/s"),
            f"{sum(timeline['records']):,} records in {duration(seconds)}, at most {max(rates):,.0f} a second,"
            f" {mean:,.0f} on average.",
        )
    elif is_long and any(timeline["documents"]):
        rates = buckets.rates(timeline["documents"])
        yield Plot(
            "Documents compared a second",
            steps_chart(buckets, rates, "records", "documents/s"),
            f"{sum(timeline['documents']):,} documents in {duration(seconds)}; no record had to be written.",
        )
    if is_long and any(timeline["requests"]):
        yield _requests_plot(timeline, buckets)
    spans = [(_STAGES.get(name, name), *span) for name, span in report["stages"].items()]
    if is_long and spans:
        longest, from_s, to_s = max(spans, key=lambda span: span[2] - span[1])
        yield Plot(
            "When each stage was at work",
            spans_chart(spans, seconds),
            f"Stages overlap. The longest was “{longest}”, {duration(to_s - from_s)}.",
        )
    if len(history) > 1:
        yield _trend_plot(report, history[:TREND_RUNS_MAX])


def _coarse(timeline: Json) -> dict[str, Any]:
    """The timeline in points that are wide enough to be told apart, and no shorter than a batch takes."""
    width = 1
    points = len(timeline["records"])
    while points / width > COARSE_POINTS_MAX or (timeline["bucket_s"] * width < COARSE_FROM_S and points / width > 20):
        width *= 2
    at = range(0, points, width)
    counted = {
        name: [sum(counts[start : start + width]) for start in at]
        for name, counts in timeline.items()
        if name not in ("bucket_s", "allowed_per_s")
    }
    allowed = [
        next((rate for rate in reversed(timeline["allowed_per_s"][start : start + width]) if rate is not None), None)
        for start in at
    ]
    return {"bucket_s": timeline["bucket_s"] * width, **counted, "allowed_per_s": allowed}


def _requests_plot(timeline: Json, buckets: Buckets) -> Plot:
    again = [sum(counts) for counts in zip(timeline["throttled"], timeline["retried"], strict=True)]
    chart, draws_allowed = requests_chart(buckets, timeline["requests"], again, timeline["allowed_per_s"])
    allowed = [rate for rate in timeline["allowed_per_s"] if rate is not None]
    told = f"{amount(sum(timeline['requests']), 'request')}, {f'{sum(again):,}' if any(again) else 'none'} sent again."
    if allowed and not draws_allowed:
        told += f" {max(allowed):,.0f} a second were allowed, far more than were needed."
    legend = [("taken", "taken by the memory")]
    if sum(again):
        legend.append(("again", "throttled or unanswered, and sent again"))
    if draws_allowed:
        legend.append(("allowed", "allowed at that time"))
    return Plot("Requests a second", chart, told, legend)


def _trend_plot(report: Json, history: Sequence[PastRunRow]) -> Plot:
    runs = list(reversed(history))
    values = [(float(run.records), _TONES.get(run.status, "warning"), _run_title(run)) for run in runs]
    marked = next((index for index, run in enumerate(runs) if run.run_id == report["run_id"]), None)
    good = sum(run.status == "in_sync" for run in runs)
    return Plot(
        "Records written by each run",
        trend_chart(values, marked=marked),
        f"The last {len(runs)} runs, the newest at the right; {good} of them ended in sync.",
        [("good", "in sync"), ("warning", "not in sync"), ("bad", "failed")],
    )


def _run_title(run: PastRunRow) -> str:
    return f"{moment(run.started_at)}: {status_words(run.status)}, {amount(run.records, 'record')} written"
