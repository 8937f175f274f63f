"""What may be sent unencrypted, since it does not leave this machine."""

import pytest

from pipeline.hosts import is_loopback


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.8.7", "::1"])
def test_this_machine_is_known_by_its_names_and_addresses(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("127.example.com", "127.0.0.1.example.com", "localhost.example.com", "memory.localhost"),
        *("10.0.0.1", "::2", "example.com", "", None),
    ],
)
def test_another_machine_is_not_taken_for_this_one(host: str | None) -> None:
    """A name that begins like an address would get passwords in the clear."""
    assert not is_loopback(host)
