"""Pages of the web; what is private stays so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from epsilon_lab.agents.tools import FetchUrl, ToolError, fetch_url, web_search
from epsilon_lab.agents.tools.web import is_public
from epsilon_lab.errors import InvalidInput

from .conftest import Hand

PAGE = b"<html><head><title>T</title><style>p {}</style></head><body><p>One&nbsp;<b>bold</b></p><script>evil()</script>\
<a href='/x'>link</a></body></html>"


class Site(ThreadingHTTPServer):
    """A site on this machine."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Pages)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.seen: list[str] = []

    def url(self, path: str = "/") -> str:
        return f"http://{self.host}{path}"


class Pages(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        kind, body, headers, status = "text/plain", b"hello", {}, 200
        match self.path:
            case "/page":
                kind, body = "text/html; charset=utf-8", PAGE
            case "/large":
                body = b"x" * 10_000
            case "/image":
                kind = "image/png"
            case "/gzip":
                headers = {"Content-Encoding": "gzip"}
            case "/missing":
                status, body = 404, b"no such page"
            case "/loop":
                status, headers = 302, {"Location": "/loop"}
            case "/file":
                status, headers = 302, {"Location": "file:///etc/passwd"}
            case "/private":
                status, headers = 302, {"Location": "http://127.0.0.2:1/"}
            case "/moved":
                status, headers = 301, {"Location": "/page"}
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.shutdown()
        thread.join()


def test_a_page_is_its_text(hand: Hand, site: Site) -> None:
    fetch = FetchUrl(private=[site.host])
    assert hand.call(fetch, url=site.url("/page")) == "T\nOne bold\n[/x] link"
    assert hand.call(fetch, url=site.url("/moved")) == "T\nOne bold\n[/x] link"
    assert hand.call(fetch, url=site.url()) == "hello"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/large", "more than the 5,000 bytes"),
        ("/image", "is no text but image/png"),
        ("/gzip", "is compressed"),
        ("/missing", "404 Not Found: b'no such page'"),
        ("/loop", "more than 5 redirects"),
        ("/file", "is no http or https address"),
        ("/private", "127.0.0.2, which is no public address"),
    ],
)
def test_what_is_no_page_is_refused(hand: Hand, site: Site, path: str, said: str) -> None:
    with pytest.raises(ToolError, match=said):
        hand.call(FetchUrl(private=[site.host], limit_bytes=5_000), url=site.url(path))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]",
     "[::]", "10.0.0.1", "192.168.1.1", "169.254.169.254", "[fe80::1]", "[fd00::1]", "100.64.0.1", "224.0.0.1"],
)  # fmt: skip
def test_no_private_address_is_reached_whatever_it_is_called(hand: Hand, site: Site, host: str) -> None:
    seen = len(site.seen)
    with pytest.raises(ToolError, match="no public address"):
        hand.call(fetch_url, url=f"http://{host}:{site.server_address[1]}/")
    assert len(site.seen) == seen


def test_a_name_is_connected_to_where_it_was_looked_at(hand: Hand, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to a private address the second time is not asked a second time."""
    asked: list[str] = []

    async def getaddrinfo(_: object, host: str, port: int, **__: object) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", ("93.184.216.34" if len(asked) == 1 else "127.0.0.1", port))]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", getaddrinfo)
    seen = len(site.seen)
    with pytest.raises(ToolError):
        hand.call(FetchUrl(timeout_s=3), url=f"http://rebound.example:{site.server_address[1]}/")
    assert asked == ["rebound.example"]
    assert len(site.seen) == seen


def test_a_private_host_is_allowed_with_its_port_alone(hand: Hand, site: Site) -> None:
    fetch = FetchUrl(private=["127.0.0.1:1"])
    with pytest.raises(ToolError, match="no public address"):
        hand.call(fetch, url=site.url())


@pytest.mark.parametrize("url", ["ftp://example.com/", "file:///etc/passwd", "http://", "x", "http://a:b@example.com/",
                                 "http://example.com:99999/", "gopher://example.com"])  # fmt: skip
def test_only_plain_web_addresses_are_taken(hand: Hand, url: str) -> None:
    with pytest.raises(ToolError):
        hand.call(fetch_url, url=url)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("8.8.8.8", True), ("2606:4700::1111", True), ("::ffff:8.8.8.8", True), ("::ffff:10.0.0.1", False),
     ("2002:7f00:1::", False), ("64:ff9b::7f00:1", False), ("64:ff9b::808:808", True), ("127.0.0.1", False),
     ("fe80::1%eth0", False), ("240.0.0.1", False), ("255.255.255.255", False), ("ff02::1", False)],
)  # fmt: skip
def test_an_address_is_public_or_not(address: str, expected: bool) -> None:
    assert is_public(address) is expected


async def searching(query: str) -> list[dict[str, str]]:
    return [{"title": query}]


def test_a_search_is_a_function_of_the_users(hand: Hand) -> None:
    assert hand.call(web_search(lambda query: f"found {query}"), query="roses") == "found roses"
    tool = web_search(searching)
    assert hand.call(tool, query="roses") == [{"title": "roses"}]
    assert tool.provenance.endswith(":searching")
    with pytest.raises(InvalidInput, match="web_search search"):
        web_search(3)  # type: ignore[arg-type]
