"""The page of a report: what it says, and that nobody else speaks through it."""

import base64
import hashlib
import re
import unicodedata
from html.parser import HTMLParser
from typing import Any

import pytest

from pipeline.errors import StateError
from pipeline.events import DocumentsDecided, DocumentsRenamed
from pipeline.model import DocumentId
from pipeline.reporting.pages import render_page

from .report_examples import RUN_ID, ExampleRun, busy_run, diff_of, letter, past_run, shown

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></textarea><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "a\x1b[2J\x00\x9b\x07b",
    "\u202egnp.exe\u2066\u200f",
    "line\nbreak\r\u2028end",
    "a\udcffb",
    "`<b>x</b>`",
]


class Page(HTMLParser):
    """A page as a browser reads it: its elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._inside: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            while self._inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._inside[-1:] not in (["style"], ["script"]):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """The elements and the names of their attributes, in order."""
        return [(tag, tuple(attributes)) for tag, attributes in self.elements]


def page_of(report: dict[str, Any], history: Any = ()) -> Page:
    return Page(render_page(report, history))


@pytest.mark.parametrize("name", HOSTILE)
def test_no_element_and_no_attribute_comes_from_a_name(name: str) -> None:
    """Whoever may put a file into a folder must not run anything in the browser of whoever looks after the sync.

    The page of hostile names has the very elements and attributes that the page of plain ones has.
    """
    history = [past_run("failed", number) for number in range(3)]
    plain = page_of(busy_run(name="notes").end("dead_letters", letters=[letter("notes")], error="notes"), history)
    hostile = page_of(busy_run(name=name).end("dead_letters", letters=[letter(name)], error=name), history)

    # What stands between backticks is shown as code, and a message of several lines as paragraphs: bare elements both.
    bare = [("code", ()), ("p", ())]
    assert [part for part in hostile.shape() if part not in bare] == [
        part for part in plain.shape() if part not in bare
    ]
    for tag, attributes in hostile.elements:
        assert not any(
            attribute.startswith("on") or attribute in ("href", "src", "style") for attribute in attributes
        ), tag


@pytest.mark.parametrize("name", HOSTILE)
def test_no_character_of_a_name_drives_anything(name: str) -> None:
    """Not a terminal that the page is printed on, nor the direction in which the rest of a line is read."""
    html = render_page(busy_run(name=name).end("dead_letters", letters=[letter(name)]))

    assert {unicodedata.category(character) for character in set(html) - {"\n"}}.isdisjoint(
        {"Cc", "Cf", "Cs", "Zl", "Zp"}
    )
    html.encode()


def test_a_name_can_still_be_read() -> None:
    """What is made harmless is shown all the same: it is the name that a person looks for."""
    text = page_of(busy_run(name='<b>"A & B"</b> \u202e.md').end()).text

    assert 'added-<b>"A & B"</b> \\u202e.md' in text


def test_the_page_lets_nothing_in_and_asks_for_nothing() -> None:
    """It is opened from a mail or a share by people who trust it, and behind firewalls where no font would load."""
    html = render_page(busy_run().end(), [past_run("in_sync", 0), past_run("failed", 1)])
    page = Page(html)

    (policy,) = [
        attributes["content"] or ""
        for _, attributes in page.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none';")
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert not {tag for tag, _ in page.elements} & {"link", "img", "iframe", "object", "embed", "base", "a"}
    assert "http://" not in html
    assert "https://" not in html


def test_first_comes_what_happened_and_what_to_do() -> None:
    """Whoever opens it after a bad night wants no chart first."""
    page = page_of(busy_run().end("failed", error="The credentials have expired."))

    headings = re.findall(
        r"Not in sync: the run failed\.|The credentials have expired\.|memsync run /srv/handbook.yaml|How it went",
        page.text,
    )
    assert headings[0] == "Not in sync: the run failed."
    assert headings.index("The credentials have expired.") < headings.index("How it went")
    assert headings.index("memsync run /srv/handbook.yaml") < headings.index("How it went")


def test_a_run_in_sync_asks_for_nothing() -> None:
    """A heading with nothing below it would make people look for what they have missed."""
    run = ExampleRun()
    page = page_of(run.end())

    assert "In sync." in page.text
    assert "What to do" not in page.text


def test_a_killed_run_says_so_and_how_to_go_on() -> None:
    """Its report is a draft: nobody was there to write how it ended."""
    report = busy_run().draft()
    report["status"] = report["account"]["status"] = "interrupted"

    text = page_of(report).text

    assert "Not in sync: the run was interrupted." in text
    assert "did not come to its end" in text
    assert "memsync run /srv/handbook.yaml" in text


def test_a_run_at_work_is_not_called_anything_else() -> None:
    """Its counts are of the moment, and nothing is to be done."""
    text = page_of(busy_run().draft()).text

    assert "Still at work." in text
    assert "What to do" not in text
    assert "In sync" not in text


def test_what_is_not_listed_is_counted() -> None:
    """Five hundred names of a million must not pass for all of them."""
    run = ExampleRun()
    for number in range(700):
        run.hear(DocumentsDecided("added", 1, created=1, document=DocumentId(f"{number}.md")))
    page = page_of(run.end())

    assert "500 of 700 documents, the first of each kind" in page.text
    assert "200 more added" in page.text
    assert sum(tag == "tr" and "data-kind" in attributes for tag, attributes in page.elements) == 500


def test_dead_letters_tell_the_reason_and_what_to_do() -> None:
    """The code alone sends people to search for it."""
    text = page_of(busy_run().end("dead_letters", letters=[letter("broken.pdf")])).text

    assert "1 × broken.pdf while reading" in text
    assert "Mend the document" in text


def test_past_runs_show_and_this_one_is_marked() -> None:
    """A bad night among good ones is another thing than the third bad one."""
    history = [past_run("guarded", 0), past_run("interrupted", 1), past_run("in_sync", 2)]
    page = page_of(busy_run().end("guarded"), history)

    assert "The last 3 runs, the newest at the right; 1 of them ended in sync." in page.text
    assert "not known: it did not come to its end" in page.text
    assert sum("aria-current" in attributes for _, attributes in page.elements) == 1
    assert RUN_ID[:8] in page.text


def test_everything_can_be_read_without_script_and_by_keyboard() -> None:
    """Only the filter needs a script, and is hidden until there is one; what scrolls can be reached by keyboard."""
    page = page_of(busy_run().end())

    (filter_form,) = [attributes for tag, attributes in page.elements if tag == "form"]
    assert "hidden" in filter_form
    scrolling = [attributes for _, attributes in page.elements if attributes.get("class") == "scroll"]
    assert scrolling
    assert all(attributes.get("tabindex") == "0" and attributes.get("aria-label") for attributes in scrolling)
    charts = [attributes for tag, attributes in page.elements if tag == "svg" and "aria-hidden" not in attributes]
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in charts)


def test_a_newer_report_with_more_in_it_can_be_shown() -> None:
    """A report outlives the version that wrote it, in both directions as far as can be."""
    report = busy_run().end()
    report["account"]["documents"]["merged"] = 3
    report["account"]["unheard_of"] = True
    report["something"] = {}

    assert "Not in sync: 1 dead letter outstanding." in page_of(report).text


@pytest.mark.parametrize("change", [{"documents": []}, {"seconds": "long"}, {"timeline": None}, {"account": {}}])
def test_a_report_that_somebody_has_changed_is_told_and_does_not_crash(change: dict[str, Any]) -> None:
    """It is a file like any other."""
    report = {**busy_run().end(), **change}

    with pytest.raises(StateError, match="cannot be shown"):
        render_page(report)


# ---------------------------------------------------------------------------------------------------- texts


def test_how_a_text_changed_can_be_read_and_is_folded_until_somebody_wants_it() -> None:
    """A page of a hundred texts would not say what the run came to."""
    run = ExampleRun()
    run.hear(DocumentsRenamed(1, [(DocumentId("old.md"), DocumentId("new.md"))]))
    run.diff = diff_of(
        shown("changed", "new.md", [" Stays.", "-Two there.", "+Two elsewhere.", "@", "+Three."]),
        shown("removed", "gone.md", ["-Gone."], lines_left_out=2, records_left_out=1),
    )

    page = page_of(run.end())

    folded = [attributes for tag, attributes in page.elements if tag == "details" and attributes.get("class") == "diff"]
    assert folded == [{"class": "diff"}, {"class": "diff"}]
    assert "2 documents: what the memory had before this run, and what it has now." in page.text
    assert "changed new.md was old.md +2 −1 update" in page.text
    assert "Stays. − Two there. + Two elsewhere. ⋯ + Three." in page.text
    assert "removed gone.md −1 and more" in page.text
    assert "2 more lines and 1 more record" in page.text
    assert [tag for tag, _ in page.elements].count("ins") == 2
    assert [tag for tag, _ in page.elements].count("del") == 2


def test_the_page_says_whether_it_holds_texts() -> None:
    """Whoever mails it must know what is in it."""
    without, with_texts = ExampleRun(), ExampleRun()
    with_texts.diff = diff_of(shown("added", "a.md", ["+One."]))
    nothing_shown = ExampleRun()
    nothing_shown.diff = diff_of()

    assert "no text of theirs" in page_of(without.end()).text
    assert "This page holds texts of documents" in page_of(with_texts.end()).text
    assert "no text of theirs" in page_of(nothing_shown.end()).text
    assert "What changed in the texts" not in page_of(nothing_shown.end()).text + page_of(without.end()).text


def test_what_is_not_shown_of_texts_is_said() -> None:
    """Nobody must take what is missing for what has not changed."""
    run = ExampleRun()
    run.diff = diff_of(
        shown("added", "a.md", ["+One."]), has_more=True, records_of_earlier_run=2, problem="403, oh no."
    )

    text = page_of(run.end()).text

    assert "1 document, the first of more: what the memory had before this run, and what it has now." in text
    assert "2 records were left in the outbox by an interrupted run and sent by this one." in text
    assert "Not every old text could be read. 403, oh no." in text


def test_a_report_of_an_earlier_version_has_no_texts_and_is_shown() -> None:
    report = busy_run().end()
    del report["diff"]

    assert "What changed in the texts" not in page_of(report).text
