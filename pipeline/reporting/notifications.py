"""Notices sent through Apprise, which speaks to mail servers, chats, pagers and webhooks. Imported only to send."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import apprise

from pipeline.reporting.notices import Notice
from pipeline.reporting.text import printable

_SERVICE_CHARACTERS_MAX = 30
_TYPES = {
    "failed": apprise.NotifyType.FAILURE,
    "guarded": apprise.NotifyType.WARNING,
    "dead_letters": apprise.NotifyType.WARNING,
    "recovered": apprise.NotifyType.SUCCESS,
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one address. `service` is how it begins, such as `slack`: the rest may be a secret."""

    service: str
    problem: str | None = None


def send(notice: Notice, addresses: Sequence[str], *, within_s: float) -> list[Sent]:
    """Send `notice` to all `addresses` at once; return what came of each by the end of `within_s` seconds.

    Never raises. What takes longer goes on in threads that end with the process.
    """
    _keep_libraries_quiet()
    ends_at = time.monotonic() + within_s
    problems: dict[int, str | None] = {}

    def deliver(position: int, address: str) -> None:
        problems[position] = _problem_of(notice, address)

    threads = [
        threading.Thread(target=deliver, args=[position, address], daemon=True)
        for position, address in enumerate(addresses)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends_at - time.monotonic()))
    late = f"it did not answer within {within_s:g} s"
    return [Sent(_service(address), problems.get(position, late)) for position, address in enumerate(addresses)]


def _problem_of(notice: Notice, address: str) -> str | None:
    # No message of an error is passed on: it may repeat the address.
    try:
        service = apprise.Apprise()
        if not service.add(address):
            return "Apprise knows no service of that address"
        is_sent = service.notify(
            body=notice.body,
            title=notice.title,
            notify_type=_TYPES[notice.occasion],
            body_format=apprise.NotifyFormat.TEXT,
        )
    except Exception as error:  # plugins raise whatever their libraries do
        return f"it failed with {type(error).__name__}"
    return None if is_sent else "it could not be reached, or refused the message"


def _service(address: str) -> str:
    scheme, separator, _ = address.partition("://")
    return printable(scheme, characters_max=_SERVICE_CHARACTERS_MAX) if separator else "an address without ://"


def _keep_libraries_quiet() -> None:
    """They would log addresses, and with them tokens."""
    for name in ("apprise", "urllib3", "requests"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
