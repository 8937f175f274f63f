"""Several listeners as one, none of which can stop a run."""

from contextlib import suppress

import structlog

from pipeline.events import Observer, RunEvent


def fan_out(*observers: Observer) -> Observer:
    """Return a listener that tells every one of `observers`, in their order.

    One that raises is logged and hears nothing more.
    """
    listening = list(observers)

    def tell(event: RunEvent) -> None:
        for observer in tuple(listening):
            try:
                observer(event)
            except Exception:  # whatever went wrong in a display, the run goes on
                listening.remove(observer)
                _log_failure(observer, event)

    return tell


def _log_failure(observer: Observer, event: RunEvent) -> None:
    name = getattr(observer, "__qualname__", type(observer).__qualname__)
    # Where stderr is gone, the log may be the very listener that failed: there is nobody left to tell.
    with suppress(Exception):
        structlog.get_logger().exception("listener_failed", listener=name, run_event=type(event).__name__)
