"""A page in the browser over the state of sources: how they stand, what they do, what failed, and what to do next."""

from pipeline.console.server import serve_console

__all__ = ("serve_console",)
