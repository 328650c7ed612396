"""Conditional writes where the object store compares generations instead of ETags."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from embstore.remote.location import as_location
from embstore.remote.object_store import ObjectStore
from embstore.remote.requests import Patience


class Bucket:
    """A bucket of one object that has an ETag and a generation."""

    def __init__(self) -> None:
        self.meta: dict[str, Any] = {
            "path": "tables/current.json",
            "size": 2,
            "e_tag": '"CAE="',
            "version": "17",
            "last_modified": None,
        }
        self.modes: list[Any] = []

    def head(self, key: str) -> dict[str, Any]:
        return self.meta

    def put(self, key: str, data: bytes, *, mode: Any, **options: Any) -> dict[str, Any]:
        self.modes.append(mode)
        return {"e_tag": '"CAI="', "version": "18"}


def opened(url: str, bucket: Bucket) -> ObjectStore:
    pytest.importorskip("obstore")
    store = ObjectStore.__new__(ObjectStore)
    store._location = as_location(url)
    store._patience = Patience(1.0)
    store._top = ""
    clients: Any = SimpleNamespace(reading=bucket, writing=bucket, credentials="none")
    store._clients = clients
    return store


def test_the_generation_of_the_etag_is_compared() -> None:
    bucket = Bucket()
    store = opened("gs://bucket/tables", bucket)
    done = store.put("current.json", b"{}", if_match="CAE=")
    assert done is not None
    assert bucket.modes == [{"e_tag": '"CAE="', "version": "17"}]
    bucket.meta["e_tag"] = '"CAI="'
    assert store.put("current.json", b"{}", if_match="CAE=") is None
    assert len(bucket.modes) == 1


def test_others_compare_etags() -> None:
    bucket = Bucket()
    assert opened("az://container/tables", bucket).put("current.json", b"{}", if_match="CAE=")
    assert bucket.modes == [{"e_tag": '"CAE="'}]
