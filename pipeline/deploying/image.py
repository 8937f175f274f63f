"""What the Containerfile makes, as those who start it must know it."""

CONFIGURATION = "/etc/memsync"
STATE = "/var/lib/memsync"
DOCUMENTS = "/documents"
USER_ID = 10001
HEALTH_PORT = 8080


def health_check(port: int) -> str:
    """A line of Python that fails unless a scheduler on this machine is alive."""
    return f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/healthz', timeout=4)"
