"""What a look at a source leads to: each setting with the reason for its value."""

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.reporting.looks import FoundKind, Look
from pipeline.reporting.previews import TextPreview
from pipeline.reporting.text import amount
from pipeline.starting.draft import Draft, Setting, source_setting, value_at
from pipeline.starting.look import OF_FILES
from pipeline.starting.yaml_text import SCHEMA_FILE

CHARS_USUAL, CHARS_MORE = 4_000, 6_000  # the first is the default of `chunking.max_chars`
METADATA_MAX = 4  # beside title and uri; what is stored with every record has to be worth it
METADATA_CHARACTERS_MAX = 60  # on average; more is a text, and nothing to filter by
LEFT_OUT_ENDINGS_MAX = 8

# What people write for people. The others are source code, data and configuration.
_DOCUMENTS = """
    .md .markdown .mdown .mkd .mdx .qmd .rmd .html .htm .xhtml .txt .text .rst .adoc .asciidoc .org .tex .textile .wiki
    .creole .pod .man .srt .vtt .csv .tsv .jsonl .ndjson .eml .ipynb .pdf .epub .rtf .odt .ods .odp
    .doc .docx .docm .dotx .ppt .pptx .pptm .ppsx .potx .xls .xlsx .xlsm .xltx
    """
DOCUMENTS = frozenset(_DOCUMENTS.split())
# Folders that programs fill, and not people. Only names that mean nothing else: `vendor` can be a folder of contracts.
MADE_BY_PROGRAMS = {
    "node_modules": "installed packages",
    "bower_components": "installed packages",
    "site-packages": "installed packages",
    "venv": "installed packages",
    "__pycache__": "compiled code",
    "_build": "built from what is here",
    "htmlcov": "reports of test runs",
}
SCHEDULES = {
    "feed": ("*/30 * * * *", "every half hour: a feed that has not changed costs one small request"),
    "web": ("{minute} 3 * * *", "once a night: each run asks for every page"),
    "singer": ("{minute} 3 * * *", "once a night: each run has the tap read everything"),
}
HOURLY = ("{minute} * * * *", "every hour, at a minute of its own; what has not changed costs little")
STORED_ANYWAY = ("title", "uri", "link", "url")  # under these names or others
HAVE_ADDRESSES = ("feed", "git", "rest", "web")

_METADATA_KEY = re.compile(r"[a-zA-Z0-9_-]+")
_IS_HTML = re.compile(r"</(p|div|h[1-6]|ul|li|a|b|strong|em)>|<br\s*/?>", re.IGNORECASE)
_IS_MARKDOWN = re.compile(r"^(#{1,6} \S|```|\s*[-*] \S.*\n\s*[-*] )|\]\(https?://", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Choice:
    """Documents beside other files with text: which are taken is for the user to say."""

    documents: Sequence[FoundKind]
    others: Sequence[FoundKind]

    @property
    def suggests_documents(self) -> bool:
        """Whether the documents are what the source is about: a few notes beside many data files are not."""
        documents, others = (sum(kind.documents for kind in kinds) for kinds in (self.documents, self.others))
        return 3 * documents >= others


def choice_of(look: Look) -> Choice | None:
    """The choice that there is; None if all readable files are of one sort."""
    readable = [kind for kind in look.kinds if kind.left_out is None]
    documents = [kind for kind in readable if kind.ending in DOCUMENTS]
    others = [kind for kind in readable if kind.ending not in DOCUMENTS]
    return Choice(documents, others) if documents and others and any(kind.ending for kind in look.kinds) else None


def documents_only(choice: Choice) -> Setting:
    patterns = [f"*{kind.ending}" for kind in choice.documents]
    left = sum(kind.documents for kind in choice.others)
    others = ", ".join(kind.ending or "no ending" for kind in choice.others[:4])
    return source_setting(
        "include",
        patterns,
        f"documents; not {amount(left, 'other file')} found ({others}): drop this line to take those too",
    )


def folders_to_leave_out(look: Look) -> Setting | None:
    """What to exclude before anything else is looked at: it would hide the rest."""
    found = [folder for folder in look.folders if folder in MADE_BY_PROGRAMS]
    if not found:
        return None
    reasons = dict.fromkeys(MADE_BY_PROGRAMS[folder] for folder in found)
    return source_setting("exclude", [f"{folder}/" for folder in found], ", ".join(reasons))


def endings_to_leave_out(draft: Draft, look: Look) -> Setting | None:
    """What has no text anyway: not counted in every report."""
    if value_at(draft, "source", "include"):
        return None  # it takes nothing of the kind
    kinds = [kind for kind in look.kinds if kind.left_out is not None and "pip install" not in kind.left_out]
    endings = [f"*{kind.ending}" for kind in kinds if kind.ending][:LEFT_OUT_ENDINGS_MAX]
    if not endings:
        return None
    known = list(value_at(draft, "source", "exclude") or [])
    before = next((setting.why for setting in draft if setting.path == ("source", "exclude")), "")
    why = "; ".join(filter(None, [before, "files without text, which need not be counted in each report"]))
    return source_setting("exclude", [*known, *(ending for ending in endings if ending not in known)], why)


def own_files_left_out(draft: Draft, file: Path) -> Setting | None:
    """If the YAML file lies among the documents, it is none of them, nor is the schema beside it."""
    root = (file.parent / str(value_at(draft, "source", "path"))).resolve()
    if value_at(draft, "source", "type") != "filesystem" or value_at(draft, "source", "include"):
        return None
    if not file.resolve().is_relative_to(root):
        return None
    known = list(value_at(draft, "source", "exclude") or [])
    before = next((setting.why for setting in draft if setting.path == ("source", "exclude")), "")
    why = "; ".join(filter(None, [before, "this file and its schema are no documents"]))
    own = [f"/{each.resolve().relative_to(root)}" for each in (file, file.with_name(SCHEMA_FILE))]
    return source_setting("exclude", [*known, *own], why)


def content_settings(draft: Draft, look: Look) -> list[Setting]:
    """What the texts that were read say about how they are to be read: of sources that cannot know it themselves."""
    type_name, columns = value_at(draft, "source", "type"), value_at(draft, "source", "text")
    if type_name != "sql" or not isinstance(columns, str):
        return []
    texts = [text.records[0].text for text in _texts(look) if text.records]
    for markup, pattern in (("html", _IS_HTML), ("markdown", _IS_MARKDOWN)):
        if texts and 2 * sum(bool(pattern.search(text)) for text in texts) >= len(texts):
            return [source_setting("media_type", markup, "as the rows that were read look")]
    return []


def common_settings(draft: Draft, name: str, look: Look | None) -> list[Setting]:
    """What every source is given: how it is cut, where it stands in the memory, when it runs, what guards it."""
    type_name = str(value_at(draft, "source", "type"))
    minute = zlib.crc32(name.encode()) % 60
    schedule, why = SCHEDULES.get(type_name, HOURLY)
    settings = [
        _chunking(look),
        Setting(
            ("record", "namespace"),
            "/docs/{source}/",
            "where agents find it: they search a path and all below it",
        ),
        *_metadata(type_name, look),
        Setting(
            ("schedule",),
            schedule.format(minute=minute),
            f"{why}. `memsync schedule` starts its runs, or what `memsync deploy` writes for cron and others",
        ),
    ]
    if type_name == "feed" and value_at(draft, "source", "keep") != "listed":
        return settings  # from which nothing is ever deleted
    return [
        *settings,
        Setting(
            ("deletes", "max_fraction"),
            0.2,
            "if more than this part of the documents (and more than ten) is gone at once, nothing is deleted until"
            " somebody has looked",
        ),
    ]


def _chunking(look: Look | None) -> Setting:
    lengths = look.text_lengths() if look is not None else []
    characters = CHARS_USUAL
    if not lengths:
        why = "most characters of a record, up to 16,000; longer documents are cut at headings and paragraphs"
    else:
        most, half = lengths[(len(lengths) - 1) * 9 // 10], lengths[len(lengths) // 2]
        if most <= CHARS_USUAL:
            why = "most texts that were read are shorter and stay whole, each one record; AgentCore takes up to 16,000"
        elif most <= CHARS_MORE:
            characters = CHARS_MORE
            why = "so nine of ten texts that were read stay whole; AgentCore takes 16,000, but finds short ones better"
        else:
            why = (
                f"half of the texts that were read have {half:,} characters or more: they are cut at headings and"
                " paragraphs, since short records are found better; AgentCore takes up to 16,000"
            )
    return Setting(("chunking", "max_chars"), characters, why)


def _metadata(type_name: str, look: Look | None) -> list[Setting]:
    texts = _texts(look) if look is not None else []
    settings = []
    if texts and 2 * sum(bool(text.title) for text in texts) >= len(texts):
        settings.append(_metadata_setting("title", "{title}", "to show beside what was found"))
    if type_name in HAVE_ADDRESSES:
        settings.append(_metadata_setting("uri", "{uri}", "where readers find the document"))
    counts = Counter(key for text in texts for key, value in text.unused.items() if _is_worth_it(key, value))
    for key, count in counts.most_common():
        if 2 * count >= len(texts) and len(settings) < METADATA_MAX + 2 and key not in STORED_ANYWAY:
            settings.append(_metadata_setting(key, f"{{metadata.{key}}}", "the documents say it of themselves"))
    return settings


def _metadata_setting(key: str, template: str, why: str) -> Setting:
    return Setting(("record", "metadata", key), template, why)


def _is_worth_it(key: str, value: Any) -> bool:
    return bool(_METADATA_KEY.fullmatch(key)) and 0 < len(str(value)) <= METADATA_CHARACTERS_MAX


def _texts(look: Look) -> list[TextPreview]:
    return [text for preview in look.previews for text in preview.texts if text.problem is None]


def takes_patterns(type_name: str) -> bool:
    """Whether what is taken can be told by the endings of names."""
    return type_name in OF_FILES
