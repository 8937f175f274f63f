"""What a dead letter's code means, and what to do about it: for people who meet it for the first time."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from pipeline.events import OutstandingLetter
from pipeline.model import DeadLetter, Stage

Kind = tuple[Stage, str, str]  # the stage, the code, and the message without what differs from letter to letter

_NUMBER = re.compile(r"\d[\d,._]*")


class Reason(NamedTuple):
    """Why something was given up on, and what a person can do about it; each is a sentence."""

    cause: str
    cure: str


_MEND_DOCUMENT = "Mend the document; the next run reads it. Or leave it out with `source.exclude`."
_RAISE_LIMIT = "Raise `parsing.limits`, or leave the document out with `source.exclude`."
_WAIT = "Wait: runs send it again by themselves. In quarantine, `memsync replay` does once the memory is well."

BROKEN = Reason("The document is broken or cut off, or is not what its name says.", _MEND_DOCUMENT)
_TOO_MUCH = Reason("The document has more in it than is read.", _RAISE_LIMIT)
ILL_MEMORY = Reason("The memory failed, and went on failing.", _WAIT)
_NOT_WANTED = Reason(
    "The memory refused this record alone; its words say why.",
    "Mend the document, or send it otherwise with `memsync dead-letters edit`.",
)

# By stage and code. What is not here has the reason of its stage.
REASONS: Mapping[tuple[Stage, str], Reason] = {
    ("write", "400"): _NOT_WANTED,
    ("write", "ValidationException"): _NOT_WANTED,
    ("write", "InvalidInputException"): _NOT_WANTED,
    ("write", "SerializationException"): _NOT_WANTED,
    ("write", "RequestEntityTooLarge"): Reason(
        "The record alone is too large for a request.", "Lower `chunking.max_chars`, or shorten `record.metadata`."
    ),
    ("write", "404"): Reason(
        "The memory did not find the record that was to be updated.",
        "Wait: a record can be too young for it. If it stays, `memsync verify --repair` finds out what is there.",
    ),
    ("write", "429"): Reason("The memory refused this record for its rate for too long, and took others.", _WAIT),
    ("write", "unknown"): Reason(
        "The memory refused this record and gave no code.",
        "`memsync replay` sends it again. If it fails again, mend the document or send it otherwise with `memsync"
        " dead-letters edit`.",
    ),
    ("derive", "limit"): Reason(
        "The record breaks a limit of the memory, so it was not sent.",
        "Change `record` or `chunking` in the settings, or the document; or send it otherwise with `memsync"
        " dead-letters edit`.",
    ),
    ("parse", "parser_crashed"): Reason(
        "Reading the document ended the process that read it: it needs too much memory, or makes a library fail.",
        "Runs try it again by themselves. If it stays, save it in another format, or leave it out with"
        " `source.exclude`.",
    ),
    ("parse", "parser_too_slow"): Reason(
        "Reading the document took too long.",
        "Runs try it again by themselves. If it stays, raise `parsing.limits.document_s`.",
    ),
    ("parse", "not_tried"): Reason(
        "Other files beside it broke what reads them, so it was left alone.",
        "Mend or remove those; their letters name them.",
    ),
    ("parse", "unsupported"): Reason(
        "It had text once and has none now; its records are kept.",
        "Mend the document, or remove it from the source to delete its records.",
    ),
    ("parse", "lapsing"): Reason(
        "It was dropped by hand and still cannot be read: its records cannot be renewed, and lapse"
        " (`record.expiry_days`).",
        "Mend the document; the next run reads it. Or drop the letter once more, to let its records lapse.",
    ),
    ("parse", "encoding"): Reason(
        "Its bytes are not in the encoding that is set.", "Change `parsing.encoding`, or the document."
    ),
    ("parse", "blank_output"): Reason("It is not blank, but no text could be read from it.", _MEND_DOCUMENT),
    ("parse", "binary_text"): Reason("What should be its text is no text.", _MEND_DOCUMENT),
    ("parse", "missing_column"): Reason(
        "The table has not the columns that the settings name.", "Change `parsing.csv`, or the table."
    ),
    ("parse", "missing_id"): Reason(
        "A line has no value in the field that names it.", "Change the line, or the field in the settings of `parsing`."
    ),
    ("parse", "not_an_object"): Reason("A line is JSON, but not an object.", _MEND_DOCUMENT),
    ("parse", "document_type"): Reason(
        "The XML declares a document type, which is not read, since it can hold traps.", _MEND_DOCUMENT
    ),
    ("parse", "cut_off"): Reason(
        "It ends in the middle of its parts; those that are there were read.",
        "Bring the whole file; nothing was deleted.",
    ),
    ("parse", "too_large"): _TOO_MUCH,
    ("parse", "too_many_entries"): _TOO_MUCH,
    ("parse", "too_deep"): Reason("Its content is nested too deeply.", _MEND_DOCUMENT),
    ("parse", "not_a_mail"): BROKEN,
    ("parse", "not_a_notebook"): BROKEN,
    ("fetch", "PermissionError"): Reason(
        "It may not be read.", "Give the user who runs memsync the right to read it. Every run tries again."
    ),
    ("fetch", "too_large"): Reason(
        "It is larger than `source.max_bytes` allows.", "Raise that, or leave it out with `source.exclude`."
    ),
    ("fetch", "changed_while_read"): Reason(
        "It changed while it was read, each time.", "Nothing, if it comes to rest: every run tries again."
    ),
    ("fetch", "outside_root"): Reason(
        "A link leads out of the source's folder, where nothing is read.", "Move the file, or remove the link."
    ),
    ("fetch", "not_a_file"): Reason("It is no file any more.", "Nothing, if that is right: the next run sees it."),
    ("fetch", "worker_not_started"): Reason(
        "No process could be started to read it.", "Give the machine more memory, or set `workers.processes: 0`."
    ),
}

BY_STAGE: Mapping[Stage, Reason] = {
    "scan": Reason(
        "A part of the source could not be listed; nothing is deleted there meanwhile.",
        "Mend what the message names. The next run lists it anew, and a replay does not.",
    ),
    "fetch": Reason(
        "The source did not give the document; its records are kept.",
        "Mend what the message names. Every run tries again by itself.",
    ),
    "parse": Reason("The document could not be read; its records are kept.", _MEND_DOCUMENT),
    "derive": Reason("The record cannot be sent as it is.", "Change the settings of `record`, or the document."),
    "write": Reason(
        "The memory did not take the record.", "Read what it said; mend the document, or the memory, and replay."
    ),
}


def kind_of(letter: DeadLetter | OutstandingLetter) -> Kind:
    """Letters whose messages differ only in numbers, or in the document that they name, are of one kind."""
    general = letter.message.replace(letter.document_id, "#") if letter.document_id else letter.message
    return letter.stage, letter.code, _NUMBER.sub("#", general)


def reason_of(letter: DeadLetter | OutstandingLetter) -> Reason:
    """What is known of why `letter` was given up on."""
    if letter.stage == "write" and letter.code.isdecimal() and int(letter.code) >= 500:
        return ILL_MEMORY
    if letter.stage == "parse" and letter.code.startswith("broken_"):
        return BROKEN
    return REASONS.get((letter.stage, letter.code), BY_STAGE[letter.stage])
