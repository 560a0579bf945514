"""A wall around the HTTP client that litellm is given: what a server may do to us, whoever it is.

The key goes to the address it was meant for and no further, so no redirect is followed. A reply is read up to a limit,
and not unpacked: a few kilobytes on the wire could be gigabytes in memory, so it is asked for as it is, and one that
comes compressed all the same is refused. Whether an answer had begun is known here alone, and it decides whether the
request is sent again.

This module imports httpx, which litellm brings along; it is imported with litellm, on first use.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from epsilon_lab.agents.answer import NoAnswer, check_head, check_size


class Guard(httpx.AsyncBaseTransport):
    """A transport that passes requests on and distrusts responses.

    Args:
        below: The transport that speaks to the network.
    """

    def __init__(self, below: httpx.AsyncBaseTransport) -> None:
        self._below = below

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request.

        Raises:
            NoAnswer: There is no connection, it broke, or the response is not to be read.
        """
        request.headers["accept-encoding"] = "identity"
        try:
            response = await self._below.handle_async_request(request)
        except httpx.TimeoutException:
            raise
        except httpx.TransportError as error:
            connected = "Connector" not in type(error.__cause__).__name__ and not isinstance(error, httpx.ProxyError)
            raise NoAnswer("broken" if connected else "unreachable", str(error)) from error
        try:
            check_head(response.status_code, response.headers)
        except NoAnswer:
            await response.aclose()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Capped(response.stream)
        return response

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._below.aclose()


class _Capped(httpx.AsyncByteStream):
    def __init__(self, below: httpx.AsyncByteStream) -> None:
        self._below = below

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in self._below:
                size += len(chunk)
                check_size(size)
                yield chunk
        except httpx.TimeoutException:
            raise
        except httpx.TransportError as error:
            raise NoAnswer("unusable", f"the answer broke off after {size} bytes") from error

    async def aclose(self) -> None:
        await self._below.aclose()
