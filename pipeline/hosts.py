"""Which hosts are this machine."""

import ipaddress


def is_loopback(host: str | None) -> bool:
    """Whether what is sent to `host`, a name or an address, stays on this machine.

    `127.example.com` does not, as a name may begin like an address; nor does `memory.localhost` for certain, as some
    systems ask the network for it.
    """
    host = (host or "").lower()
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
