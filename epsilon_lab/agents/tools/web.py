"""The web: a page by its address, and a search by a function of the user's.

An address may come from a page that somebody wrote for the model to read, so it is not trusted. Only http and https;
and no address of a private network, or of this machine, where services answer whoever can reach them. What counts is
the address that is connected to: names are resolved here, every address a name has is looked at, and the connection
goes to one of those that were looked at, so that a name which resolves to another address a moment later changes
nothing. A redirect is a new address. A proxy would resolve names itself and is not used.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib import import_module
from typing import Any
from urllib.parse import urljoin, urlsplit

import anyio
import anyio.to_thread

from epsilon_lab.agents.tools.function_tool import called
from epsilon_lab.agents.tools.tool import ToolContext, ToolError
from epsilon_lab.agents.tools.with_settings import ToolWithSettings
from epsilon_lab.arguments import function, number, whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import name_of

_REDIRECTS = 5
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits


@dataclass(frozen=True, kw_only=True)
class FetchUrl(ToolWithSettings):
    """A page of the web, as text.

    Args:
        timeout_s: Seconds for all of it, redirects included.
        limit_bytes: Bytes of a page that are read.
        private: Hosts that may be fetched from although they are on a private network or this machine, each a name
            or an address as it stands in the URL, with a port where only that one is meant: `("localhost:8000",)`.

    Raises:
        InvalidInput: An argument has a wrong type or value.
    """

    timeout_s: float = 20.0
    limit_bytes: int = 2 * 2**20
    private: Sequence[str] = ()

    once = True

    def __post_init__(self) -> None:
        number("FetchUrl timeout_s", self.timeout_s, least=0, above=True)
        whole("FetchUrl limit_bytes", self.limit_bytes, least=1, most=2**30)
        if isinstance(self.private, str) or not all(isinstance(host, str) for host in self.private):
            raise InvalidInput("FetchUrl private", f"must be a list of hosts, got {self.private!r}")
        object.__setattr__(self, "private", tuple(self.private))

    @property
    def what(self) -> Callable[..., Any]:
        """What the model calls."""
        return self.fetch_url

    async def fetch_url(self, url: str, context: ToolContext) -> str:
        """Fetch a page of the web by its http or https address, and get its text.

        Args:
            url: The address.
            context: The task.
        """
        with anyio.move_on_after(min(self.timeout_s, context.seconds_left)):
            for _ in range(_REDIRECTS + 1):
                answer = await self._get(url)
                if isinstance(answer, str):
                    return answer
                url = urljoin(url, answer.location)
            raise ToolError(f"more than {_REDIRECTS} redirects; the last one to {url[:200]!r}")
        raise ToolError(f"no whole answer from {urlsplit(url).hostname} in {self.timeout_s:g} s")

    async def _get(self, url: str) -> str | _Redirect:
        parts = _checked(url)
        aiohttp = await anyio.to_thread.run_sync(import_module, "aiohttp")
        addresses = await self._addresses(parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme])
        connector = aiohttp.TCPConnector(resolver=_Resolved(addresses), use_dns_cache=False, limit=1)
        headers = {
            "User-Agent": "epsilon_lab",
            "Accept-Encoding": "identity",
            "Accept": "text/*, application/json, */*",
        }
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
                ) as session,
                session.get(url, allow_redirects=False, headers=headers) as response,
            ):
                if 300 <= response.status < 400 and "location" in response.headers:
                    return _Redirect(response.headers["location"])
                if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
                    raise ToolError("the page is compressed, though it was asked for as it is")
                data = await self._read(response)
                kind, charset = response.content_type, response.charset or "utf-8"
                if response.status >= 400:
                    raise ToolError(f"the server answered {response.status} {response.reason}: {data[:200]!r}")
        except (aiohttp.ClientError, OSError) as error:
            raise ToolError(f"{parts.hostname} cannot be fetched from: {error}") from None
        return _text(data, kind, charset)

    async def _read(self, response: Any) -> bytes:
        data = bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > self.limit_bytes:
                raise ToolError(f"the page has more than the {self.limit_bytes:,} bytes that are read")
        return bytes(data)

    async def _addresses(self, host: str, port: int) -> list[dict[str, Any]]:
        """Where a host is, if all of it may be reached."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ToolError(f"there is no host {host!r} ({error})") from None
        if not {host, f"{host}:{port}"} & set(self.private):
            for _, _, _, _, address in found:
                if not is_public(str(address[0])):
                    raise ToolError(f"{host} is at {address[0]}, which is no public address, and may not be reached")
        return [
            {"hostname": host, "host": address[0], "port": port, "family": family, "proto": 0, "flags": 0}
            for family, _, _, _, address in found
        ]


@dataclass(frozen=True)
class _Redirect:
    location: str


class _Resolved:
    """A resolver that knows the one host that was looked at, and resolves nothing."""

    def __init__(self, addresses: list[dict[str, Any]]) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:  # noqa: ARG002
        """The addresses that were looked at."""
        return self._addresses

    async def close(self) -> None:
        """Nothing is open."""


def is_public(address: str) -> bool:
    """Tell whether an IP address is of the public internet, also the IPv4 address that an IPv6 one carries."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _checked(url: str) -> Any:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ToolError(f"{url[:200]!r} is no address ({error})") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ToolError(f"{url[:200]!r} is no http or https address")
    if parts.username is not None or parts.password is not None:
        raise ToolError("an address holds no user and no password")
    return parts


def _text(data: bytes, kind: str, charset: str) -> str:
    """A page as text; of HTML, what a reader would see."""
    if not (kind.startswith("text/") or re.search(r"json|xml|javascript|yaml|x-www-form", kind)):
        raise ToolError(f"the page is no text but {kind}, {len(data):,} bytes")
    try:
        text = data.decode(charset, "replace")
    except LookupError:
        text = data.decode("utf-8", "replace")
    if "html" not in kind:
        return text or "(the page is empty)"
    page = _Page()
    page.feed(text)
    page.close()
    return page.text or "(the page has no text)"


class _Page(HTMLParser):
    """What of a page is text."""

    _SILENT = frozenset({"script", "style", "noscript", "template", "svg"})
    _BREAKS = frozenset({"p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "pre"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._silent = 0

    @property
    def text(self) -> str:
        """The text, a line a block."""
        lines = (" ".join(line.split()) for line in "".join(self._parts).splitlines())
        return "\n".join(filter(None, lines))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin an element."""
        if tag in self._SILENT:
            self._silent += 1
        elif tag in self._BREAKS:
            self._parts.append("\n")
        if tag == "a" and (href := dict(attrs).get("href")):
            self._parts.append(f"[{href}] ")

    def handle_endtag(self, tag: str) -> None:
        """End an element."""
        if tag in self._SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in self._BREAKS:
            self._parts.append("\n")

    def handle_data(self, data: str) -> None:
        """Take text."""
        if not self._silent:
            self._parts.append(data)


fetch_url = FetchUrl()


@dataclass(frozen=True)
class WebSearch(ToolWithSettings):
    """A search of the web, by a function of the user's.

    Args:
        search: `search(query) -> results`, plain or async: a text, or plain data.

    Raises:
        InvalidInput: It is no such function.
    """

    search: Callable[[str], Any]

    once = True

    def __post_init__(self) -> None:
        function("web_search search", self.search, ("query",), awaited=True)

    @property
    def provenance(self) -> str:  # type: ignore[override]
        """The function's place."""
        return f"function {getattr(self.search, '__module__', '?')}:{name_of(self.search)}"

    @property
    def what(self) -> Callable[..., Any]:
        """What the model calls."""
        return self.web_search

    async def web_search(self, query: str) -> Any:
        """Search the web.

        Args:
            query: What to look for.
        """
        return await called(functools.partial(self.search, query))


def web_search(search: Callable[[str], Any]) -> WebSearch:
    """Make a tool `web_search` of a function `search(query) -> results`, plain or async.

    Raises:
        InvalidInput: It is no such function.
    """
    return WebSearch(search)
