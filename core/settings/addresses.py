"""Addresses that a run may be sent to, read strictly: what two parsers could read in two ways is refused."""

import re
from ipaddress import ip_address

URL = re.compile(r"(?i:(?P<scheme>https?)://(?P<host>\[[^\]]*\]|[^:/?#@\\]*)(:(?P<port>\d{1,5}))?(/[^?#\\]*)?)")
LABEL = r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?"
HOST = re.compile(rf"(?i:(?=.{{1,253}}$)({LABEL}\.)*{LABEL}\.?)")
NUMBERS = re.compile(r"(?i:[\d.]+|(.*\.)?(\d+|0x[0-9a-f]*)\.?)")
"""What a resolver takes for an IP address, in one of its many spellings."""


def is_loopback(host: str | None) -> bool:
    """Of a host as a URL holds it, the brackets of IPv6 included or not."""
    if host is not None and host.lower() == "localhost":
        return True
    try:
        address = ip_address((host or "").removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return address.is_loopback and "%" not in str(address)


def host_of(url: str) -> str:
    """The host of a URL that `check_url` let pass."""
    parts = URL.fullmatch(url)
    return "" if parts is None else parts["host"]


def check_url(url: str) -> str:
    """Raises ValueError, without what the URL may hold that is a secret."""
    if re.search(r"[^\x21-\x7e]", url):
        raise ValueError("it must not hold spaces or other characters that a URL escapes")
    if not re.match(r"(?i:https?://[^/?#])", url):
        raise ValueError("it must be an http or https URL")
    if re.search(r"[@?#]", url):
        raise ValueError("it must not hold a user, a password, a query or a fragment")
    parts = URL.fullmatch(url)
    if parts is None or not _is_host(parts["host"]):
        raise ValueError("it names no host, or in a way that programs read differently")
    if int(parts["port"] or 0) >= 2**16:
        raise ValueError("its port is no number from 0 to 65535")
    if parts["scheme"].lower() == "http" and not is_loopback(parts["host"]):
        raise ValueError("plain http is for loopback only: the token would travel in the clear")
    return url


def _is_host(host: str) -> bool:
    """A name, an IPv4 address of four numbers, or an IPv6 address in brackets without a zone."""
    if not host.startswith("[") and not NUMBERS.fullmatch(host):
        return HOST.fullmatch(host) is not None
    bare = host.removeprefix("[").removesuffix("]")
    try:
        return "%" not in bare and ip_address(bare).version == (6 if host.startswith("[") else 4)
    except ValueError:
        return False
