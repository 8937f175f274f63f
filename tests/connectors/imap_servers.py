"""IMAP servers to read from, each in a process of its own on this machine: pymap, and Dovecot where there is one."""

import getpass
import grp
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

PASSWORD = "s3cret-word"
_USERS = (f"user{number}" for number in itertools.count())


@dataclass
class ImapServer:
    """`tls` is the certificate that it shows, None if it speaks without TLS."""

    port: int
    folder: Path
    process: "subprocess.Popen[bytes]"
    tls: Path | None = None

    def new_user(self) -> str:
        """The name of a user with an empty inbox."""
        raise NotImplementedError

    def maildir(self, user: str) -> Path:
        return self.folder / "mail" / user


class Pymap(ImapServer):
    def new_user(self) -> str:
        from pysasl.hashing import BuiltinHash

        user = next(_USERS)
        with (self.folder / "pymap-etc-passwd").open("a") as users:
            users.write(f"{user}:x::::mail/{user}:\n")
        with (self.folder / "pymap-etc-shadow").open("a") as passwords:
            passwords.write(f"{user}:{BuiltinHash(rounds=1).hash(PASSWORD)}:::::::\n")
        return user


class Dovecot(ImapServer):
    def new_user(self) -> str:
        return next(_USERS)


@contextmanager
def pymap_server(*, certificate: tuple[Path, Path] | None = None) -> Iterator[Pymap]:
    """Yield a running server; `certificate` and key make it speak TLS after STARTTLS."""
    with tempfile.TemporaryDirectory(prefix="pymap") as name:
        folder, port = Path(name), _free_port()
        (folder / "mail").mkdir()
        (folder / "pymap-etc-passwd").touch()
        (folder / "pymap-etc-shadow").touch()
        tls = ["--cert", str(certificate[0]), "--key", str(certificate[1])] if certificate else ["--no-tls"]
        program = "from pymap.main import main; main()"
        listen = ["--host", "127.0.0.1", "--port", str(port), "--no-service", "managesieve", "--no-service", "admin"]
        command = [sys.executable, "-c", program, *listen, *tls, "maildir", str(folder)]
        with _running(command, folder, port) as process:
            yield Pymap(port, folder, process, certificate[0] if certificate else None)


@contextmanager
def dovecot_server(*, certificate: tuple[Path, Path] | None = None) -> Iterator[Dovecot]:
    """Yield a running server; skips the test, and says why, if there is none to be had."""
    program = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("Dovecot was NOT tested: apt-get install dovecot-imapd")
    with tempfile.TemporaryDirectory(prefix="dovecot") as name:
        folder, port = Path(name), _free_port()
        folder.chmod(0o755)
        (folder / "mail").mkdir()
        (folder / "mail").chmod(0o777)
        config = folder / "dovecot.conf"
        config.write_text(_dovecot_config(folder, port, certificate))
        with _running([program, "-F", "-c", str(config)], folder, port) as process:
            yield Dovecot(port, folder, process, certificate[0] if certificate else None)


def _dovecot_config(folder: Path, port: int, certificate: tuple[Path, Path] | None) -> str:
    # Dovecot reads no mail as root.
    user = "nobody" if os.geteuid() == 0 else getpass.getuser()
    group = grp.getgrgid(os.getegid()).gr_name if user != "nobody" else "nogroup"
    tls = f"ssl = yes\nssl_cert = <{certificate[0]}\nssl_key = <{certificate[1]}\n" if certificate else "ssl = no\n"
    listener = f"inet_listener imaps {{\n port = {port}\n ssl = yes\n }}" if certificate else (
        f"inet_listener imap {{\n port = {port}\n }}"
    )  # fmt: skip
    return f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
listen = 127.0.0.1
protocols = imap
{tls}
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
mail_uid = {user}
mail_gid = {group}
mail_location = maildir:{folder}/mail/%u
mail_max_userip_connections = 50
disable_plaintext_auth = no
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = home={folder}/mail/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Trash {{
    special_use = \\Trash
  }}
  mailbox Junk {{
    special_use = \\Junk
  }}
  mailbox Drafts {{
    special_use = \\Drafts
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = 0
  }}
  {listener}
}}
service anvil {{
  chroot =
}}
"""


@contextmanager
def _running(command: list[str], folder: Path, port: int) -> "Iterator[subprocess.Popen[bytes]]":
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=folder)
        try:
            for _ in range(1200):
                if _listens(port):
                    break
                with suppress(subprocess.TimeoutExpired):  # neither of the two says when it listens
                    process.wait(timeout=0.05)
                    pytest.fail(f"the IMAP server did not start: {(folder / 'said').read_text()[-800:]}")
            yield process
        finally:
            _end(process)


def _listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, and its key, as files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files
