"""A server of rows on asyncio: each request waits for its rows without holding up the others.

    python examples/serve_async.py STORE [PORT]

A request is a line with a JSON list of ids, or of words; the answer is a line with a list of rows,
or with an error. Without a STORE, the example builds a small one, asks a server of it from ten
clients at once, and ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import embstore

HOST = "127.0.0.1"


class Server:
    """A server of one store's rows.

    Parameters
    ----------
    store : EmbeddingStore
        The store.
    """

    def __init__(self, store: embstore.EmbeddingStore) -> None:
        self.store = store

    async def rows(self, ids: list[int] | list[str]) -> np.ndarray:
        """Return the rows of ids or words."""
        found = self.store.ids(ids) if ids and isinstance(ids[0], str) else ids
        # The disk reads the rows, and the event loop serves other clients meanwhile.
        rows: np.ndarray = await asyncio.wrap_future(self.store.submit(found))
        return rows

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the lines of one client."""
        async for line in reader:
            try:
                answer = {"rows": (await self.rows(json.loads(line))).tolist()}
            except (embstore.EmbstoreError, ValueError, TypeError) as error:
                answer = {"error": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()


async def ask(port: int, *requests: list[int] | list[str]) -> list[dict[str, Any]]:
    """Return the answers to some requests, as one client."""
    reader, writer = await asyncio.open_connection(HOST, port)
    answers = []
    for request in requests:
        writer.write(json.dumps(request).encode() + b"\n")
        answers.append(json.loads(await reader.readline()))
    writer.close()
    await writer.wait_closed()
    return answers


async def show(path: Path) -> None:
    """Build a small store, and ask a server of it from ten clients at once."""
    table = np.arange(40_000, dtype=np.float32).reshape(10_000, 4)
    words = [f"word{number}" for number in range(len(table))]
    with embstore.build(table, path, words=words) as store:
        server = await asyncio.start_server(Server(store).serve, HOST, 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            clients = [ask(port, [n, n + 1], [f"word{n}"], [10_000]) for n in range(10)]
            answers = await asyncio.gather(*clients)
        for rows, row, error in answers:
            print(rows["rows"][0], row["rows"][0], error["error"])
        print(f"{store.stats().rows} rows for {len(answers)} clients")


async def main(arguments: list[str]) -> None:
    """Serve a store, or show how."""
    if not arguments:
        with tempfile.TemporaryDirectory() as folder:
            await show(Path(folder, "example.embstore"))
        return
    port = int(arguments[1]) if len(arguments) > 1 else 8765
    with embstore.open(arguments[0]) as store:
        server = await asyncio.start_server(Server(store).serve, HOST, port)
        print(f"{store} on port {port}")
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
