"""A proxy that counts: the requests that pass to a web server, and the bytes of its answers.

It passes TCP connections on as they are. Signed requests stay valid, because the client signs the
proxy's address, which the server sees as the ``Host``. Bytes include the headers of answers.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "127.0.0.1"
# How the first line of a request ends. A request without a body has it once.
REQUEST_MARK = b" HTTP/1.1\r\n"
_READ_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Count:
    """Requests, and bytes of answers, headers included."""

    requests: int = 0
    answer_bytes: int = 0

    def since(self, before: Count) -> Count:
        """Return what was added since an earlier count."""
        return Count(self.requests - before.requests, self.answer_bytes - before.answer_bytes)


class CountingProxy:
    """A proxy on 127.0.0.1 in front of a server, in a thread; a context manager.

    Parameters
    ----------
    endpoint : str
        The server's ``http://HOST:PORT``.

    Attributes
    ----------
    endpoint : str
        The proxy's own.
    """

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._server = parts.hostname or HOST, parts.port or 80
        self._requests = self._answer_bytes = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.endpoint = ""

    @property
    def count(self) -> Count:
        """What has passed so far."""
        return Count(self._requests, self._answer_bytes)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._pass, HOST, 0, backlog=1024)
        self._listener = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.endpoint = f"http://{HOST}:{self._listener.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._listener.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _pass(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            server, forth = await asyncio.open_connection(*self._server)
            await asyncio.gather(
                _copy(client, forth, _marks(self._add_requests)),
                _copy(server, back, self._add_bytes),
            )

    def _add_requests(self, count: int) -> None:
        self._requests += count

    def _add_bytes(self, data: bytes) -> None:
        self._answer_bytes += len(data)


def _marks(add: Callable[[int], None]) -> Callable[[bytes], None]:
    """Return what counts the requests of a connection in the pieces that arrive."""
    end = b""

    def look(data: bytes) -> None:
        nonlocal end
        seen = end + data
        add(seen.count(REQUEST_MARK))
        # Too short for a whole mark, so that none is counted twice.
        end = seen[-len(REQUEST_MARK) + 1 :]

    return look


async def _copy(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, look: Callable[[bytes], None]
) -> None:
    try:
        while data := await source.read(_READ_BYTES):
            look(data)
            target.write(data)
            await target.drain()
    except OSError:
        pass  # Either end may have closed the connection.
    finally:
        target.close()
