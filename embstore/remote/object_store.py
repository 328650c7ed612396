"""Objects on an object store or web server, by obstore.

1. A range is read by a request of its own. The answer must tell the same range, and the ETag that
   the caller knows; the bytes are counted. Large reads are split, so that a time-out means the same
   for each request.
2. obstore's own retries are off: `embstore.remote.requests` tries again, and says how often.
3. A write that may have happened although its answer was lost is looked at before "another writer
   was first" is believed.
4. The runtime of obstore hangs in a forked child, so there every use is refused.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from embstore.errors import RemoteError, StoreNotFoundError
from embstore.remote.answers import SHOWN_LENGTH, bare, body_of, check_answer, info_of, quoted
from embstore.remote.clients import clients_of
from embstore.remote.failures import Failure, failure_of
from embstore.remote.location import Location, checked_name
from embstore.remote.objects import ObjectInfo, Request
from embstore.remote.requests import Patience, RequestError, arrivals, attempts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from threading import Event

PART_BYTES = 4 << 20  # The most bytes of one request for reading.
_UNCHECKED_BYTES = 64 << 20  # The size of an object is looked at before more of it is read.
_UPLOAD_PART_BYTES = 8 << 20
_MAX_OBJECTS = 1 << 24  # A listing of more is not believed.

Result = TypeVar("Result")
_used_in: int | None = None  # The process in which obstore's runtime was started.


class ObjectStore:
    """The objects below a URL of an object store or web server, as `Objects`.

    Parameters
    ----------
    location : Location
        Any URL but those of files.
    allow_http : bool
        Whether requests may go to another machine without encryption.
    timeout : float
        Seconds after which a request that fails is not tried again.
    """

    def __init__(
        self, location: Location, *, allow_http: bool = False, timeout: float = 30.0
    ) -> None:
        self._location = location
        self._options: dict[str, Any] = {"allow_http": allow_http, "timeout": timeout}
        self._patience = Patience(timeout)
        self._clients = clients_of(location, **self._options)
        # A web server's URL has it already.
        has_top = bool(location.prefix) and location.kind != "http"
        self._top = f"{location.prefix}/" if has_top else ""

    def __repr__(self) -> str:
        return f"<ObjectStore {self.url}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Credentials are looked up again where it is unpickled.
        return _made_again, (self._location, self._options)

    @property
    def url(self) -> str:
        """The URL, without a slash at its end."""
        return self._location.url

    def where(self, name: str) -> str:
        """Return the URL of an object."""
        return f"{self.url}/{name}" if name else self.url

    def find(self, prefix: str = "") -> list[ObjectInfo]:
        """Return all objects whose names start with ``prefix``, at any depth, sorted by name."""
        self._check_listing()
        parent = prefix.rpartition("/")[0]
        found = self._call("list", parent, partial(self._list, parent))
        return sorted(
            (one for one in found if one.name.startswith(prefix)), key=lambda one: one.name
        )

    def directories(self) -> list[str]:
        """Return the first parts of the names of objects that have a ``/`` in them."""
        self._check_listing()

        def work() -> list[str]:
            listed = self._clients.reading.list_with_delimiter(self._top.rstrip("/") or None)
            return sorted(
                {self._name_of(str(one).rstrip("/")) for one in listed["common_prefixes"]}
            )

        return self._call("list", "", work)

    def head(self, name: str) -> ObjectInfo | None:
        """Return an object, or None if it is missing."""
        work = partial(self._clients.reading.head, self._key(name))
        found = self._try(work)
        if isinstance(found, Failure):
            if found.kind == "missing":
                return None
            raise self._error(found, "look at", name)
        return info_of(name, found)

    def read(
        self, name: str, first: int = 0, count: int | None = None, *, etag: str | None = None
    ) -> bytes:
        """Return ``count`` bytes of an object from byte ``first`` on, or all that follow."""
        if count is None:
            return self._read_rest(name, first, etag)
        return b"".join(data for _, data in self.read_many([Request(name, first, count, etag)]))

    def read_many(self, requests: Sequence[Request]) -> Iterator[tuple[int, bytes]]:
        """Yield the position of each request and its bytes, as they arrive.

        At most 32 requests are in flight at a time, over all calls of the process; after an error,
        the rest is dropped.
        """
        parts: list[tuple[int, int, Request]] = []  # Position, number of the part, the part.
        missing: dict[int, list[bytes | None]] = {}
        for position, one in enumerate(requests):
            self._check_size(one)
            firsts = range(one.first, one.first + one.count, PART_BYTES)
            missing[position] = [None] * len(firsts)
            if not firsts:
                yield position, b""
            for number, first in enumerate(firsts):
                count = min(PART_BYTES, one.first + one.count - first)
                parts.append((position, number, Request(one.name, first, count, one.etag)))
        works = [partial(self._read_part, part) for _, _, part in parts]
        for place, data in arrivals(works):
            position, number, _ = parts[place]
            pieces = missing[position]
            pieces[number] = data
            if None not in pieces:
                del missing[position]
                yield position, data if len(pieces) == 1 else b"".join(pieces)  # type: ignore[arg-type]

    def put(
        self,
        name: str,
        data: bytes | Path,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> ObjectInfo | None:
        """Write an object; return it, or None if another writer was first."""
        self._check_writing()
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        options: dict[str, Any] = {"chunk_size": _UPLOAD_PART_BYTES, "max_concurrency": 1}
        if if_absent:
            options["mode"] = "create"
        elif if_match is not None:
            options["mode"] = {"e_tag": quoted(if_match)}
            if self._location.kind == "gcs":
                generation = self._generation(name, if_match)
                if generation is None:
                    return None
                options["mode"]["version"] = generation
        work = partial(self._clients.writing.put, self._key(name), data, **options)
        tries: list[Failure] = []
        done = self._try(work, tries=tries)
        if isinstance(done, Failure):
            is_conditional = if_absent or if_match is not None
            is_beaten = done.kind in ("exists", "changed") or (
                done.kind == "missing" and if_match is not None and not done.is_root
            )
            if not is_conditional or not is_beaten:
                raise self._error(done, "write", name)
            # The first of several attempts may have succeeded without an answer.
            return self._own(name, data, size) if len(tries) > 1 else None
        return ObjectInfo(name, size, bare(done["e_tag"]))

    def _generation(self, name: str, etag: str) -> str | None:
        """Return the generation of an object that has an ETag; None if it has another one.

        Google Cloud Storage writes on the condition of a generation, not of an ETag.
        """
        found = self._try(partial(self._clients.reading.head, self._key(name)))
        if isinstance(found, Failure):
            if found.kind == "missing" and not found.is_root:
                return None
            raise self._error(found, "look at", name)
        same = bare(found["e_tag"]) == etag and found["version"] is not None
        return str(found["version"]) if same else None

    def copy(self, source: str, target: str) -> None:
        """Copy an object on the server."""
        self._check_writing()
        keys = self._key(source), self._key(target)
        self._call("copy", source, partial(self._clients.writing.copy, *keys))

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; missing ones are ignored."""
        self._check_writing()
        works = [partial(self._delete, checked_name(name)) for name in names]
        for _ in arrivals(works):
            pass

    def _read_rest(self, name: str, first: int, etag: str | None) -> bytes:
        key = self._key(name)

        def work() -> tuple[int, str | None, bytes | None]:
            options: Any = {"range": {"offset": first}} if first else {}
            got = self._clients.reading.get(key, options=options)
            meta = got.meta
            check_answer(got, first, int(meta["size"]) - first, etag)
            count, found = int(meta["size"]) - first, bare(meta["e_tag"])
            # A large one is read by parts; this request is given up.
            return count, found, body_of(got, count) if count <= PART_BYTES else None

        count, found, data = self._call("read", name, work)
        if data is not None:
            return data
        return self.read(name, first, count, etag=etag if etag is not None else found)

    def _read_part(self, part: Request, stop: Event) -> bytes:
        key = self._key(part.name)

        def work() -> bytes:
            options: Any = {"range": (part.first, part.first + part.count)}
            if part.etag is not None and not part.etag.startswith("W/"):
                options["if_match"] = quoted(part.etag)
            got = self._clients.reading.get(key, options=options)
            check_answer(got, part.first, part.count, part.etag)
            return body_of(got, part.count)

        return self._call("read", part.name, work, stop)

    def _list(self, parent: str) -> list[ObjectInfo]:
        found: dict[str, ObjectInfo] = {}
        top = f"{self._top}{parent}".rstrip("/")
        for some in self._clients.reading.list(top or None, chunk_size=1000):
            for meta in some:
                name = self._name_of(str(meta["path"]))
                if name in found or len(found) >= _MAX_OBJECTS:
                    raise RequestError(
                        Failure(
                            "doubtful", f"the listing repeats itself at {name[:SHOWN_LENGTH]!r}"
                        )
                    )
                found[name] = info_of(name, meta)
        return list(found.values())

    def _delete(self, name: str, stop: Event) -> None:
        done = self._try(partial(self._clients.writing.delete, self._key(name)), stop)
        if isinstance(done, Failure) and done.kind != "missing":
            raise self._error(done, "delete", name)

    def _check_size(self, request: Request) -> None:
        """Refuse many bytes that are not there, before memory is taken for them."""
        if request.count <= _UNCHECKED_BYTES:
            return
        found, stop = self.head(request.name), request.first + request.count
        if found is None:
            raise self._error(Failure("missing", "it does not exist"), "read", request.name)
        if found.size < stop:
            told = f"expected bytes {request.first} to {stop - 1}, but it has {found.size} bytes"
            raise self._error(Failure("final", told), "read", request.name)

    def _key(self, name: str) -> str:
        return f"{self._top}{checked_name(name)}"

    def _name_of(self, key: str) -> str:
        if not key.startswith(self._top):
            raise RequestError(
                Failure("doubtful", f"the listing has another prefix: {key[:SHOWN_LENGTH]!r}")
            )
        return key[len(self._top) :]

    def _own(self, name: str, data: bytes | Path, size: int) -> ObjectInfo | None:
        """Return the object if it has just these bytes; None otherwise."""
        found = self.head(name)
        if found is None or found.size != size:
            return None
        wanted = data.read_bytes() if isinstance(data, Path) else bytes(data)
        return found if self.read(name, 0, size, etag=found.etag) == wanted else None

    def _call(
        self, verb: str, name: str, work: Callable[[], Result], stop: Event | None = None
    ) -> Result:
        done = self._try(work, stop)
        if isinstance(done, Failure):
            raise self._error(done, verb, name)
        return done

    def _try(
        self,
        work: Callable[[], Result],
        stop: Event | None = None,
        tries: list[Failure] | None = None,
    ) -> Result | Failure:
        """Return the result of requests, or why they failed."""
        self._check_process()

        def attempt() -> Result:
            failure = None
            try:
                return work()
            except RequestError as error:
                failure = error.failure
            except Exception as error:
                failure = failure_of(error)
            except BaseException as error:
                if type(error).__name__ != "PanicException":  # Of obstore, and no Exception.
                    raise
                failure = failure_of(error)
            if tries is not None:
                tries.append(failure)
            # Not inside of the handler: obstore's error tells more than may be shown.
            raise RequestError(failure)

        return attempts(attempt, self._patience, stop)

    def _error(self, failure: Failure, verb: str, name: str) -> Exception:
        where = self.where(name)
        if failure.kind == "missing":
            return StoreNotFoundError(f"could not {verb} {where}: {failure.reason}")
        advice = {
            "denied": self._clients.credentials,
            "changed": "another version was written there since it was opened; open it again",
            "doubtful": f"nothing of the answer was used; look at {self._clients.server}, and at "
            "proxies before it",
            "unknown": f"check the network, and the endpoint or region that is set for "
            f"{self._clients.server}",
            "again": f"check the network and {self._clients.server}, then try again",
        }.get(failure.kind, "")
        return RemoteError(f"could not {verb} {where}: {failure.reason}{advice and f'; {advice}'}")

    def _check_process(self) -> None:
        global _used_in  # noqa: PLW0603  # The runtime is one for the process.
        process = os.getpid()
        if _used_in is None:
            _used_in = process
        elif _used_in != process:
            raise RemoteError(
                f"{self.url} cannot be used in a forked process, because obstore's threads are "
                'not in it: start the process with multiprocessing\'s "spawn" or "forkserver" '
                "method, or open the URL in the child before the parent does"
            )

    def _check_listing(self) -> None:
        if self._location.kind == "http":
            raise RemoteError(
                f"{self.url} cannot be listed: web servers have no listing. Use the URL of the "
                "object store itself, such as s3://, gs:// or az://"
            )

    def _check_writing(self) -> None:
        if self._location.kind == "http":
            raise RemoteError(
                f"{self.url} can only be read. Write to the object store itself, by its URL, such "
                "as s3://, gs:// or az://"
            )


def _made_again(location: Location, options: dict[str, Any]) -> ObjectStore:
    return ObjectStore(location, **options)
