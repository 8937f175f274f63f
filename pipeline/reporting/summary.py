"""The closing words of `memsync run`, `replay` and `plan`.

The last line is the verdict. It says "In sync" only if the memory holds exactly what the documents imply.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.events import DeletesWithheld
from pipeline.report import REPLAY_WENT_THROUGH, RequestCounts, SourceReport, Status
from pipeline.reporting.failures import Failure
from pipeline.reporting.text import PLAIN, Style, amount, duration, moment

_NAMED_MAX = 5
# Only our own extras: a reason can hold the ending of a name, and names are others'.
_NEEDS = re.compile(r" \(needs: (pip install 'agentcore-memory-sync\[[a-z]+\]')\)$")
_STATUS_WORDS: dict[Status, str] = {
    "in_sync": "in sync",
    "dead_letters": "dead letters",
    "guarded": "deletes withheld",
    "failed": "failed",
    "locked": "held by another run",
    "interrupted": "interrupted",
}


def render_run(
    reports: Sequence[SourceReport],
    *,
    paths: Mapping[str, str],
    verb: Literal["run", "replay"] = "run",
    withheld: Mapping[str, DeletesWithheld] | None = None,
    again: Mapping[str, Sequence[str]] | None = None,
    style: Style = PLAIN,
) -> str:
    """Return the summary of a run, without a newline at its end.

    `paths` names the configuration file of each source, for the commands to be typed next; `again` holds the words of
    that which follows a failure, where it is another one. `withheld` holds what was said of a source's deletions
    (`Tally.withheld`); without it, they are not compared with a total.
    """
    sources = [
        _Source(
            report,
            paths.get(report.name, "FILE"),
            verb,
            (withheld or {}).get(report.name),
            style,
            (again or {}).get(report.name, ()),
        )
        for report in reports
    ]
    return "\n\n".join([*("\n".join(_run_block(source)) for source in sources), _verdict(sources, style)])


def render_plan(
    reports: Sequence[SourceReport],
    *,
    paths: Mapping[str, str],
    withheld: Mapping[str, DeletesWithheld] | None = None,
    failures: Mapping[str, Sequence[Failure]] | None = None,
    saved_to: str | None = None,
    style: Style = PLAIN,
) -> str:
    """Return what a run would do, without a newline at its end; `reports` count what would happen.

    `failures` are, by source, the first that there were. `saved_to` is the file that the plan was saved to.
    """
    sources = [
        _Source(
            report,
            paths.get(report.name, "FILE"),
            "run",
            (withheld or {}).get(report.name),
            style,
            failures=(failures or {}).get(report.name, ()),
            saved_to=saved_to,
        )
        for report in reports
    ]
    blocks = ["\n".join(_plan_block(source)) for source in sources]
    if saved_to is not None:
        blocks.append("\n".join(_saved_note(saved_to, style)))
    return "\n\n".join([*blocks, _plan_verdict(sources, style)])


@dataclass(frozen=True, slots=True)
class Note:
    """What the reader must know, and the commands to be typed next. All of it is safe to print."""

    sentences: Sequence[str]
    commands: Sequence[str] = ()

    def lines(self) -> Iterator[str]:
        yield ""
        yield from (f"    {sentence}" for sentence in self.sentences)
        yield from (f"      {command}" for command in self.commands)


def notes_of_run(
    report: SourceReport, path: str, verb: Literal["run", "replay"], withheld: DeletesWithheld | None
) -> list[Note]:
    """What the summary of a run says below its counts; the arguments are as for `render_run`, of one source."""
    return list(_notes(_Source(report, path, verb, withheld, PLAIN)))


def verdict_of_run(report: SourceReport, verb: Literal["run", "replay"]) -> str:
    """The last line of a run of one source."""
    return _verdict([_Source(report, "FILE", verb, None, PLAIN)], PLAIN)


@dataclass(frozen=True, slots=True)
class _Source:
    """One source, and how to speak of it."""

    report: SourceReport
    path: str
    verb: Literal["run", "replay"]
    withheld: DeletesWithheld | None
    style: Style
    again: Sequence[str] = ()
    failures: Sequence[Failure] = ()
    saved_to: str | None = None

    @property
    def name(self) -> str:
        return self.style.text(self.report.name)

    @property
    def is_in_sync(self) -> bool:
        """Whether the status says so and the counts bear it out: never say more than the account holds."""
        documents, records = self.report.documents, self.report.records
        is_settled = not (records.pending or records.dead_lettered or documents.failed)
        return self.report.status == "in_sync" and is_settled

    @property
    def has_plan(self) -> bool:
        return self.report.status not in {"failed", "interrupted", "locked"}

    @property
    def dead_letters(self) -> int:
        """How many are outstanding; a document that never became records has a letter, but no record."""
        report = self.report
        return max(report.records.dead_lettered, sum(report.dead_letters_by_code.values()), report.documents.failed)

    def command(self, verb: str, *options: str) -> str:
        return self.style.command(verb, self.path, *options)

    def command_again(self) -> str:
        """What to type after a failure."""
        return self.style.command(*self.again) if self.again else self.command(self.verb)


# ----------------------------------------------------------------------------------------- what was counted


def _run_block(source: _Source) -> Iterator[str]:
    yield _heading(source)
    if source.report.status != "locked":
        yield from _documents_lines(source)
        yield f"    records    {_records_words(source)}"
        yield f"    requests   {_requests_words(source.report.requests)}"
    for note in _notes(source):
        yield from note.lines()


def _heading(source: _Source) -> str:
    status, style = source.report.status, source.style
    verdict = "good" if source.is_in_sync else "bad" if status == "failed" else "warning"
    words = "not in sync" if status == "in_sync" and not source.is_in_sync else _STATUS_WORDS[status]
    time = style.paint(duration(source.report.seconds), "dim")
    return f"{style.sign(verdict)} {style.paint(source.name, 'bold')}  {words}  {time}"


def _documents_lines(source: _Source) -> Iterator[str]:
    yield f"    documents  {_documents_words(source)}"
    skipped = source.report.documents.skipped
    if skipped:
        yield f"    skipped    {_skipped_words(skipped, source.style)}"
        yield from _needs_lines(skipped)


def _documents_words(source: _Source) -> str:
    documents = source.report.documents
    by_outcome = _listed(
        (documents.unchanged, "unchanged"),
        (documents.added, "added"),
        (documents.changed, "changed"),
        (documents.failed, "failed"),
    )
    words = f"{documents.seen:,} seen" + (f": {by_outcome}" if by_outcome else "")
    if documents.renamed:
        words += f"; {documents.renamed:,} renamed"
    if documents.renewed:
        words += f"; {documents.renewed:,} renewed before they lapse"
    if documents.removed:
        words += f"; {documents.removed:,} removed"
    return words


def _skipped_words(skipped: Mapping[str, int], style: Style) -> str:
    counts: Counter[str] = Counter()
    for reason, count in skipped.items():
        counts[_NEEDS.sub("", reason)] += count
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    reasons = [f"{count:,} {style.text(reason)}" for reason, count in by_count[:_NAMED_MAX]]
    if len(by_count) > _NAMED_MAX:
        reasons.append(f"{sum(count for _, count in by_count[_NAMED_MAX:]):,} for other reasons")
    return f"{sum(skipped.values()):,} on purpose: {', '.join(reasons)}"


def _needs_lines(skipped: Mapping[str, int]) -> Iterator[str]:
    """What to install, once for all that needs it."""
    counts: Counter[str] = Counter()
    for reason, count in skipped.items():
        if found := _NEEDS.search(reason):
            counts[found[1]] += count
    for command, count in sorted(counts.items()):
        yield f"               {count:,} of them can be read after: {command}"


def _records_words(source: _Source) -> str:
    records = source.report.records
    words = _listed(
        (records.created, "created"),
        (records.updated, "updated"),
        (records.deleted, "deleted"),
        (records.unchanged, "unchanged"),
        (records.dead_lettered, "dead-lettered"),
        (records.dropped, "dropped by hand"),
        (records.pending, "waiting in the outbox"),
    )
    return words or "none"


def _requests_words(requests: RequestCounts) -> str:
    if not requests.sent:
        return "none"
    again = _listed((requests.throttled, "throttled"), (requests.retried, "unanswered"))
    return f"{requests.sent:,} sent" + (f"; {again}, and sent again" if again else "")


def _listed(*counts: tuple[int, str]) -> str:
    """The counts that are not zero, as words."""
    return ", ".join(f"{count:,} {word}" for count, word in counts if count)


# --------------------------------------------------------------------------------- what the reader must know


def _note(sentences: Sequence[str], *commands: str) -> Iterator[str]:
    return Note(sentences, commands).lines()


def _notes(source: _Source) -> Iterator[Note]:
    yield from _without_text_note(source)
    yield from _problem_note(source)
    yield from _withheld_note(source)
    if not source.is_in_sync:
        yield from _dead_letters_note(source)


def _without_text_note(source: _Source) -> Iterator[Note]:
    """Documents, and not one record: more likely a setting that looks for text in the wrong place than meant."""
    documents, records = source.report.documents, source.report.records
    has_documents = documents.unchanged or documents.added or documents.changed
    has_records = source.dead_letters or any(
        (records.created, records.updated, records.deleted, records.unchanged, records.pending)
    )
    if source.has_plan and has_documents and not has_records:
        yield Note(
            ["None of these documents has text that would become a record. To see what becomes of one:"],
            [source.command("preview")],
        )


def _problem_note(source: _Source) -> Iterator[Note]:
    error = source.style.lines(source.report.error or "")
    pending = _pending_words(source.report.records.pending)
    match source.report.status:
        case "failed" if "plan" in source.again[:1]:
            advice = f"Nothing is lost{pending}. To plan again:"
        case "failed" if (source.report.error or "").startswith(REPLAY_WENT_THROUGH):
            yield Note([*error, f"Nothing is lost{pending}. To bring the memory up to date:"], [source.command("run")])
            return
        case "failed":
            advice = f"Nothing is lost{pending}. Once that is mended:"
        case "interrupted":
            advice = f"Stopped before the end. Nothing is lost{pending}. To go on:"
        case "locked":
            advice = "When that one has ended:"
        case _ if pending:
            advice = f"Not everything is written{pending}. To go on:"
        case _:
            if error:
                yield Note(error)
            return
    yield Note([*error, advice], [source.command_again()])


def _pending_words(pending: int) -> str:
    if not pending:
        return ""
    verb = "waits" if pending == 1 else "wait"
    return f": {amount(pending, 'record')} {verb} in the outbox and will be delivered first"


def _withheld_note(source: _Source) -> Iterator[Note]:
    if source.report.status == "guarded":
        is_empty = source.report.documents.seen == 0
        reason = "it listed nothing at all" if is_empty else "more than `deletes.max_fraction` allows"
        if source.withheld is not None and source.withheld.is_of_asked:
            reason = "it has none of those that it was asked for"
        yield Note(
            [
                f"{_gone_words(source)}: {reason}.",
                "Their records were not deleted; everything else was done. If they are really gone:",
            ],
            [source.command("run", "--allow-mass-delete")],
        )
    elif source.report.withheld_documents:
        yield Note([f"{_gone_words(source)}; their records stay, since `deletes.enabled` is off."])


def _gone_words(source: _Source) -> str:
    gone, withheld = source.report.withheld_documents, source.withheld
    total = "" if withheld is None else f"{gone:,} of "
    documents = amount(gone if withheld is None else withheld.known, "document")
    return f"{total}{documents} {'is' if gone == 1 else 'are'} gone from the source"


def _dead_letters_note(source: _Source) -> Iterator[Note]:
    report, style = source.report, source.style
    if not source.dead_letters and report.status != "dead_letters":
        return
    place = f" in {style.text(report.dead_letters_path)}" if report.dead_letters_path else ""
    by_count = sorted(report.dead_letters_by_code.items(), key=lambda item: (-item[1], item[0]))
    reasons = [f"  {count:,} x {style.text(code)}" for code, count in by_count]
    earlier = source.dead_letters - sum(report.dead_letters_by_code.values())
    if reasons and earlier:
        reasons.append(f"  {earlier:,} from earlier runs")
    has_found_none = source.verb == "replay" and report.status == "dead_letters" and not report.documents.seen
    if has_found_none:
        advice = [
            "None of the documents that were to be sent again was found in the source, so nothing was sent.",
            "A run lists it anew, and with documents that are gone their letters go:",
        ]
        commands = [source.command("run")]
    else:
        advice = ["To see why, and to send them again once the cause is gone:"]
        commands = [source.command("dead-letters"), source.command("replay")]
    count = f"{_dead_letters_words(source)}{place}" + (":" if reasons else ".")
    yield Note([count, *reasons, *_outlook(report), *advice], commands)


def _outlook(report: SourceReport) -> Iterator[str]:
    """What becomes of the dead letters by itself."""
    if report.next_attempt_at is not None:
        yield f"What may have passed is sent again by itself, from {moment(report.next_attempt_at)} on."
    if report.quarantined:
        were = "was" if report.quarantined == 1 else "were"
        yield f"{report.quarantined:,} quarantined: {were} sent again in vain too often, and by no run any more."


def _dead_letters_words(source: _Source) -> str:
    return amount(source.dead_letters, "dead letter") if source.dead_letters else "dead letters"


# -------------------------------------------------------------------------------------------- the last line


def _verdict(sources: Sequence[_Source], style: Style) -> str:
    if not sources:
        return "Nothing was done: there is no source."
    behind = [source for source in sources if not source.is_in_sync]
    if not behind:
        return style.paint(_in_sync_words(sources), "green")
    color = "red" if any(source.report.status == "failed" for source in behind) else "yellow"
    if len(sources) == 1:
        return style.paint(f"Not in sync: {_reason(behind[0])}.", color)
    named = [f"{source.name} ({_reason(source)})" for source in behind[:_NAMED_MAX]]
    if len(behind) > _NAMED_MAX:
        named.append(f"and {len(behind) - _NAMED_MAX:,} more")
    return style.paint(f"Not in sync: {len(behind):,} of {len(sources):,} sources: {', '.join(named)}.", color)


def _in_sync_words(sources: Sequence[_Source]) -> str:
    words = "In sync" if len(sources) == 1 else f"In sync: all {len(sources):,} sources"
    kept = sum(source.report.withheld_documents for source in sources)
    dropped = sum(source.report.records.dropped for source in sources)
    exceptions = [
        *([f"{amount(kept, 'document')} gone from the source and kept as configured"] if kept else []),
        *([f"{amount(dropped, 'dead letter')} dropped by hand"] if dropped else []),
    ]
    if exceptions:
        words += f", but for {' and '.join(exceptions)}"
    return f"{words}."


def _reason(source: _Source) -> str:
    report = source.report
    match report.status:
        case "failed":
            return f"the {source.verb} failed"
        case "interrupted":
            return f"the {source.verb} was interrupted"
        case "locked":
            return "another run holds the source"
        case "guarded":
            return f"the deletion of {amount(report.withheld_documents, 'document')} was withheld"
        case _ if report.records.pending:
            return f"{amount(report.records.pending, 'record')} not written yet"
        case _:
            return f"{_dead_letters_words(source)} outstanding"


# ---------------------------------------------------------------------------------------------------- plans


def _plan_block(source: _Source) -> Iterator[str]:
    report, style = source.report, source.style
    name = style.paint(source.name, "bold")
    if not source.has_plan:
        yield f"{style.sign('bad')} {name}  no plan"
        yield from _note(style.lines(report.error or _STATUS_WORDS[report.status]))
        return
    is_smooth = not (report.withheld_documents or source.dead_letters)
    yield f"{style.sign('good' if is_smooth else 'warning')} {name}  {_planned_words([source]) or 'nothing to do'}"
    yield from _documents_lines(source)
    rest = _listed(
        (report.records.unchanged, "unchanged"),
        (report.resent, "dead-lettered, and sent again by a run"),
        (report.records.dead_lettered - report.resent, "dead-lettered, and not sent again by a run"),
        (report.records.dropped, "dropped by hand"),
    )
    if rest:
        yield f"    records    {rest}"
    for note in (*_without_text_note(source), *_failures_note(source)):
        yield from note.lines()
    yield from _withheld_plan_note(source)


def _failures_note(source: _Source) -> Iterator[Note]:
    if not source.failures:
        return
    style = source.style
    named = [
        f"  {style.text(failure.what or 'the whole source')}: {style.text(failure.message)}"
        for failure in source.failures[:_NAMED_MAX]
    ]
    more = sum(source.report.dead_letters_by_code.values()) - len(named)
    if more > 0:
        named.append(f"  and {more:,} more; --json names more of them")
    yield Note(["What would become a dead letter, and what the memory holds of it would stay:", *named])


def _withheld_plan_note(source: _Source) -> Iterator[str]:
    if not source.report.withheld_documents:
        return
    sentence = f"{_gone_words(source)}; a run would keep their records"
    if source.report.status == "guarded" and source.saved_to is not None:
        yield from _note(
            [f"{_gone_words(source)}; the plan keeps their records. To plan their deletion, too:"],
            source.command("plan", "--allow-mass-delete", "--out", source.saved_to),
        )
    elif source.report.status == "guarded":
        yield from _note([f"{sentence}, unless told:"], source.command("run", "--allow-mass-delete"))
    else:
        yield from _note([f"{sentence}, since `deletes.enabled` is off."])


def _saved_note(saved_to: str, style: Style) -> Iterator[str]:
    yield f"Saved to {style.text(saved_to)}, which names documents and holds no text. To make these changes, or none:"
    yield f"  {style.command('run', '--plan', saved_to)}"


def _planned_words(sources: Sequence[_Source]) -> str:
    records = [source.report.records for source in sources]
    return _listed(
        (sum(counts.created for counts in records), "to create"),
        (sum(counts.updated for counts in records), "to update"),
        (sum(counts.deleted for counts in records), "to delete"),
        (sum(counts.pending for counts in records), "to deliver from the outbox"),
    )


def _plan_verdict(sources: Sequence[_Source], style: Style) -> str:
    without_plan = [source.name for source in sources if not source.has_plan]
    if without_plan:
        return style.paint(f"Nothing was touched. No plan for {', '.join(without_plan)}.", "red")
    planned = _planned_words(sources)
    if planned:
        return f"Planned, and nothing touched: {planned}."
    if any(source.report.withheld_documents or source.dead_letters for source in sources):
        return "Nothing that a run would do, and not in sync."
    return "Nothing to do."
