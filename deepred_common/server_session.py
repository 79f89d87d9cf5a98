"""HTTP sessions with model servers, and the proxies that may stand before them."""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.parse
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import requests


class Proxy(NamedTuple):
    """A proxy before a server. url: without its password. source: the environment variable that sets it."""

    url: str
    source: str


def new(url: str) -> requests.Session:
    """A session with the server at `url`. A proxy for the outside world does not reach this machine's own."""
    import requests

    session = requests.Session()
    session.trust_env = not is_on_this_machine(url)
    if not session.trust_env:
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    return session


def is_on_this_machine(url: str) -> bool:
    """True if the host of a URL is this machine itself."""
    host = _host(url)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def proxy_before(url: str) -> Proxy | None:
    """The proxy that requests to `url` go through, as environment or system say; None if they go straight."""
    from requests import utils

    if is_on_this_machine(url):
        return None
    proxy = utils.select_proxy(url, utils.get_environ_proxies(url, no_proxy=None))
    if not proxy:
        return None
    scheme = urllib.parse.urlsplit(url).scheme
    variables = [name for base in (f"{scheme}_proxy", "all_proxy") for name in (base, base.upper())]
    source = next((name for name in variables if os.environ.get(name)), "the system's settings")
    return Proxy(re.sub(r"//[^/@]*@", "//", proxy), source)


def way_around_proxies(url: str) -> str:
    """The command that lets requests to the host of `url` go straight."""
    # The name in small letters counts first where both are set.
    name = "no_proxy" if os.environ.get("no_proxy") else "NO_PROXY"
    others = os.environ.get(name)
    return f"export {name}={f'{others},' if others else ''}{_host(url)}"


def _host(url: str) -> str:
    try:
        return urllib.parse.urlsplit(url).hostname or ""
    except ValueError:  # no URL at all, such as "http://[::1"
        return ""
