"""A store that speaks S3, in a process of its own: moto's server on a free port of this machine."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LISTENS = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")


@contextmanager
def s3_server() -> Iterator[str]:
    """Yield the URL of a running server without buckets."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as said:
        try:
            url = next((found[1] for line in said if (found := LISTENS.search(line))), None)
            assert url is not None, "the S3 server did not start"
            # What it says of each request must go somewhere, or it waits.
            threading.Thread(target=lambda: [None for _ in said], daemon=True).start()
            yield url
        finally:
            process.kill()
            process.wait()
