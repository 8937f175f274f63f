"""Which dead letters have one reason, and what a person can do about it."""

import re

from pipeline.model import DocumentId, Stage

Reason = tuple[Stage, str, str]  # the stage, the code, and the message without what differs from letter to letter

_NUMBER = re.compile(r"\d[\d,._]*")

_ADVICE: dict[Stage, str] = {
    "scan": "This part of the source could not be listed. The next run tries again; until then, nothing in it goes.",
    "fetch": "Every run tries to read it again. See whether memsync may read it, and whether it is still there.",
    "parse": "It is read again when it changes. Mend the document, or leave it out with the source's `exclude`.",
    "derive": "It breaks a limit of the memory. Shorten it, or change `chunking` or `record`, then replay.",
    "write": "The memory refused it. Mend the document, or what the memory complains of, then replay.",
}


def reason_of(stage: Stage, code: str, message: str, document: DocumentId) -> Reason:
    """Messages that differ only in numbers, or in the document that they name, are one reason."""
    general = message.replace(document, "#") if document else message
    return stage, code, _NUMBER.sub("#", general)


def advice(stage: Stage) -> str:
    """What to do about a dead letter of a stage."""
    return _ADVICE[stage]
