"""Which hosts are this machine."""

import ipaddress


def is_loopback(host: str | None) -> bool:
    """Whether what is sent to `host`, a name or an address, stays on this machine.

    `127.example.com` does not: a name may begin like an address.
    """
    host = (host or "").lower()
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
