"""A store whose rows servers have; all that a store can do, over the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Self

from embstore.columns import Attributes
from embstore.errors import FormatError
from embstore.reading.encoded import EncodedRecords
from embstore.reading.readers import is_direct
from embstore.serving.asking import ask_all
from embstore.serving.replicas import lost
from embstore.store import EmbeddingStore
from embstore.table.ids import as_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from embstore.serving.link import Link
    from embstore.serving.remote_plan import RemotePlan
    from embstore.serving.remote_records import RemoteRecords
    from embstore.serving.remote_words import RemoteVocabulary
    from embstore.serving.served_table import ServedTable
    from embstore.table.numbering import Strategy
    from embstore.vocabulary.missing import Missing, MissingId


class Place(str):
    """The addresses of servers, in the place of a path."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The addresses."""
        return str(self)


class ServerFiles:
    """The place of a store's files, which are at the servers.

    Parameters
    ----------
    place : Place
        The servers.
    fingerprint : str
        That of the table.
    """

    checked = is_remote = False
    remedy = "the files are at the servers"

    def __init__(self, place: Place, fingerprint: str) -> None:
        self._place, self.identity = place, fingerprint

    def where(self, name: str) -> str:
        """Return the servers, as messages show them."""
        del name
        return str(self._place)

    def check_identity(self, expected: object) -> None:
        """Do nothing: each answer is compared with the fingerprint."""


class ConnectedStore(EmbeddingStore):
    """A table that servers have; made by `embstore.connect`.

    It is an `EmbeddingStore`: lookups by id and by word, bags, ``submit``, views, torch modules.
    Its rows come over the wire, each time. ``prefetch`` has the servers read rows ahead; ``warm``
    does nothing. There are no files, so `partition` and ``fingerprint(full=True)`` raise
    FormatError.

    Lookups may come from many threads. A forked child cannot use it, because gRPC does not work
    after a fork: it raises RemoteError there. It is pickled by its addresses and options, without
    the token: the copy takes that of the environment variable EMBSTORE_TOKEN, and raises
    `StoreChangedError` if the servers have another table by then.
    """

    def __init__(
        self,
        place: str,
        served: ServedTable,
        records: RemoteRecords,
        vocabulary: RemoteVocabulary | None,
        links: Sequence[Link],
        reconnect: tuple[Callable[..., ConnectedStore], tuple[Any, ...]],
        again: Callable[[], ConnectedStore],
    ) -> None:
        self._served, self._links, self._again = served, tuple(links), again
        self._remote = records
        where: Any = Place(place)
        files: Any = ServerFiles(where, served.fingerprint)
        table = served.table()
        direct: Any = records
        read = direct if is_direct(table) else EncodedRecords([direct], [1], table.encoding)
        words: Any = vocabulary
        super().__init__(
            where,
            table,
            files,
            read,
            reconnect,
            vocabulary=words,
            source={"format": "served", "file": served.name, "servers": place},
        )
        self._fingerprint = served.fingerprint

    def explain(self, ids: ArrayLike) -> RemotePlan:  # type: ignore[override]  # Of other numbers.
        """Return the plan of a lookup, without asking for rows: servers, requests and bytes.

        Parameters
        ----------
        ids : int or array-like of integers, any shape
            The ids of the lookup.

        Returns
        -------
        RemotePlan
            The numbers of rows, partitions, servers, requests and bytes; it prints as a table.

        Raises
        ------
        IdTypeError, IdRangeError
            As ``lookup``.
        """
        self._open_records()
        return self._remote.plan(as_ids(ids, self._rows))

    # The ids of words and their rows are several requests, with one time.

    def lookup_words(self, words: Any, *, missing: Missing = "error") -> NDArray[Any]:
        """Return the rows of words; see `embstore.EmbeddingStore.lookup_words`."""
        with self._remote.calls.one():
            return super().lookup_words(words, missing=missing)

    def ids(self, words: Any, *, missing: MissingId = "error") -> NDArray[np.int64]:
        """Return the ids of words; see `embstore.EmbeddingStore.ids`."""
        with self._remote.calls.one():
            return super().ids(words, missing=missing)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        with self._remote.calls.one():
            return super().__getitem__(key)

    @property
    def servers(self) -> tuple[str, ...]:
        """Addresses of the servers."""
        return tuple(str(link.address) for link in self._links)

    @property
    def partition_count(self) -> int:
        """Number of partitions of the table."""
        return self._served.numbering.partition_count

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions that the servers have: all of them."""
        return tuple(range(self.partition_count))

    @property
    def strategy(self) -> Strategy:
        """How ids are split among partitions: ``"mod"`` or ``"div"``."""
        return self._served.numbering.strategy

    @property
    def unk(self) -> str | None:
        """The word whose row stands for unknown words, if the store has one."""
        return self._served.unk

    @property
    def has_words(self) -> bool:
        """Whether rows have words."""
        return self._served.has_words

    @property
    def path(self) -> Any:
        """Addresses of the servers, a str, in the place of a path."""
        return self._path

    @property
    def identity(self) -> object:
        """The table's fingerprint."""
        return self._served.fingerprint

    def fingerprint(self, *, full: bool = False) -> str:
        """Return the fingerprint of the table, which the servers told.

        Raises
        ------
        FormatError
            If ``full``: the rows are checked where their files are.
        """
        self._open_records()
        if full:
            self._no("checksums; run embstore verify where its files are")
        return self._served.fingerprint

    def matches(self, fingerprint: str) -> bool:
        """Return whether a saved fingerprint is of this table."""
        return self.fingerprint() == fingerprint

    @property
    def attributes(self) -> Attributes:
        """No columns: attributes are not served, and asking for one raises FormatError.

        So builds and exports from servers leave them out.
        """
        self._open_records()
        return _NotServed(self)

    def is_current(self) -> bool:
        """Ask all servers whether they have this table; see `embstore.EmbeddingStore.is_current`.

        A server keeps the version that it was started with, so another one is there once servers
        were started again. One that does not answer has no say, unless none does.

        Returns
        -------
        bool
            False as soon as one of them has another table, or another partitioning of it.

        Raises
        ------
        StoreClosedError
            If the store is closed.
        RemoteError
            If no server answers, or this process was forked.
        """
        self._open_records()
        call = self._remote.calls.begin()
        found, problems = ask_all(dict(enumerate(self._links)), call)
        if not found:
            named = {str(self._links[place].address): str(problems[place]) for place in problems}
            raise lost(named, call)
        mine = self._served
        return all(
            facts.fingerprint == mine.fingerprint
            and (facts.partition_count, facts.strategy)
            == (mine.numbering.partition_count, mine.numbering.strategy)
            for facts in found.values()
        )

    def reload(self) -> Self:
        """Return a store over the table that the servers have now: this one, or a new one.

        Raises
        ------
        StoreClosedError
            If the store is closed.
        RemoteError
            As `embstore.connect`; also while some servers have the old table and some the new one.
        """
        if self.is_current():
            return self
        connect: Any = self._again
        newest: Self = connect()
        return newest

    def partition(self, partition: int) -> NoReturn:
        """Raise FormatError: the files are at the servers."""
        del partition
        self._open_records()
        self._no("files; look rows up by id")

    def close(self) -> None:
        """Drop the connections. Results stay valid; a further lookup raises an error."""
        super().close()
        for link in self._links:
            link.close()

    def __copy__(self) -> ConnectedStore:
        self._open_records()
        return self._again()

    def __deepcopy__(self, memo: dict[int, Any]) -> ConnectedStore:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        self._open_records()
        reconnect, arguments = self._recipe
        return reconnect, (*arguments, self._served.fingerprint)

    def __repr__(self) -> str:
        words = f", {self.rows} words" if self.has_words else ""
        closed = ", closed" if self._records is None else ""
        stored = "" if self.encoding == "plain" else f" from {self.encoding}"
        first, *others = self.servers
        more = f" and {len(others)} more" if others else ""
        return (
            f"<ConnectedStore {self.rows} rows of {self._row_shape} {self._dtype}{stored}, "
            f"{self.partition_count} {self.strategy} partitions{words}, at {first}{more}{closed}>"
        )

    def _no(self, what: str) -> NoReturn:
        raise FormatError(f"the table at {self._path} is served, so there are no {what}")


class _NotServed(Attributes):
    """The attributes of a served table: there are none to be had."""

    def __getitem__(self, name: str) -> NoReturn:
        store: ConnectedStore = self._store
        store._no("attributes; open the store itself for them")

    def __contains__(self, name: object) -> bool:
        return False

    def __reduce__(self) -> tuple[Any, ...]:
        return _NotServed, (self._store,)
