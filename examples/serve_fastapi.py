"""A web service of rows, by FastAPI: requests wait for the disk without holding up each other.

    python examples/serve_fastapi.py            # builds a small store, and asks a service of it
    python examples/serve_fastapi.py STORE      # serves a store at http://127.0.0.1:8000

Several processes share one copy of the table in memory:

    STORE=glove.embstore uvicorn --factory examples.serve_fastapi:app --workers 4

1. The store is opened when the service starts, and closed when it ends.
2. Each request uses one version of the table, the newest: a build or a change that replaces the
   store needs no restart.
3. A lookup is awaited. While the disk reads its rows, the event loop answers other requests.
4. A search computes, so its function is not ``async``: FastAPI runs it on a thread.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse

import embstore

router = APIRouter()


def create_app(path: str | Path) -> FastAPI:
    """Return a service of the store at a path."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.store = embstore.open(path)
        yield
        app.state.store.close()

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    app.add_exception_handler(embstore.MissingWordError, tell_missing)
    return app


async def tell_missing(_: Request, error: Any) -> JSONResponse:
    """Return an answer that names the missing words."""
    return JSONResponse({"missing": error.words}, status_code=404)


async def newest(request: Request) -> embstore.EmbeddingStore:
    """Return the newest version of the store; to ask for it takes microseconds."""
    state = request.app.state
    if not state.store.is_current():
        # The old one stays open for the requests that still use it.
        state.store = await asyncio.to_thread(state.store.reload)
    store: embstore.EmbeddingStore = state.store
    return store


Store = Annotated[embstore.EmbeddingStore, Depends(newest)]
Count = Annotated[int, Query(ge=1, le=100)]


@router.post("/rows")
async def rows(words: list[str], store: Store) -> list[list[float]]:
    """Return the rows of words."""
    found = await asyncio.wrap_future(store.submit(store.ids(words)))
    answer: list[list[float]] = found.tolist()
    return answer


@router.get("/similar/{word}")
def similar(word: str, store: Store, topn: Count = 10) -> list[tuple[str, float]]:
    """Return the words most similar to one."""
    return store.most_similar(word, topn)


def app() -> FastAPI:
    """Return the service of the store that the environment names, for uvicorn's ``--factory``."""
    return create_app(os.environ["STORE"])


def demonstrate(folder: Path) -> None:
    """Ask a service of a small store, and replace the store meanwhile."""
    from fastapi.testclient import TestClient  # noqa: PLC0415  # It needs httpx2.

    table: dict[str, Any] = {"north": [0, 1], "south": [0, -1], "east": [1, 0.5]}
    embstore.build({word: np.array(row, np.float32) for word, row in table.items()}, folder / "s")
    with TestClient(create_app(folder / "s")) as client:
        print(client.post("/rows", json=["north", "east"]).json())
        print(client.get("/similar/north?topn=1").json())
        print(client.post("/rows", json=["north", "west"]).json())
        embstore.append(folder / "s", {"west": np.array([-1, 0], np.float32)})
        print(client.post("/rows", json=["north", "west"]).json())


def main() -> None:
    """Serve a store, or show how."""
    if len(sys.argv) == 1:
        with tempfile.TemporaryDirectory() as folder:
            demonstrate(Path(folder))
        return
    import uvicorn  # noqa: PLC0415  # Only here a port is opened.

    uvicorn.run(create_app(sys.argv[1]))


if __name__ == "__main__":
    main()
