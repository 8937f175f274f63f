"""Documents that are pages of a website."""

from connectors.web.connector import WebConnector
from connectors.web.settings import WebSettings

__all__ = ("WebConnector", "WebSettings")
