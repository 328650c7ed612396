"""Following a path: whether an open store is the newest version there, and opening that one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from embstore.following import Watch


class FollowMixin(ABC):
    """Methods of a store that follow its path or URL."""

    _watch: Watch | None
    _open_newest: Callable[[], Any] | None

    @abstractmethod
    def _open_records(self) -> object:
        """Raise StoreClosedError if the store is closed."""

    def is_current(self) -> bool:
        """Say whether this is the newest version at the path or URL that was opened.

        It is cheap: the metadata of one file is looked at, or of each foreign file. At a URL, it
        takes two or three requests.

        Returns
        -------
        bool
            False if another version is there by now, or nothing. A copy, a snapshot or a move of
            the same version counts as this one. Of a store published at a URL, the version that
            the pointer names is the newest, also if this one was opened by ``version=``.

        Raises
        ------
        StoreClosedError
            If the store is closed.
        OSError
            If the path may not be searched or, at a URL, the object store cannot be reached
            (RemoteError).

        Examples
        --------
        >>> old = embstore.open("words.embstore")
        >>> old.is_current()
        True
        >>> _ = embstore.build({"new": np.ones(8, np.float32)}, "words.embstore", overwrite=True)
        >>> old.is_current(), old.rows, old.reload().rows
        (False, 11, 1)
        """
        self._open_records()
        watch = self._watch
        assert watch is not None, "a store without a watch has its own is_current"
        return watch.is_current()

    def reload(self) -> Self:
        """Return the newest version at the path or URL: this store, or a new one.

        A new one is opened with the same options. This one stays open, and keeps its rows: other
        threads may go on using it. It takes no memory once the last reference to it is gone; call
        `close` to release its files before that.

        Returns
        -------
        EmbeddingStore
            This store if it `is_current`. The newest version may have another number of rows, and
            after a build another row shape or dtype.

        Raises
        ------
        StoreClosedError
            If the store is closed.
        StoreNotFoundError
            If nothing is there any more.
        StoreError, OSError, ValueError
            As `embstore.open`, if the newest version cannot be opened with the same options. This
            store stays as it is.

        Examples
        --------
        >>> store.reload() is store
        True
        """
        if self.is_current():
            return self
        open_newest = self._open_newest
        assert open_newest is not None, "a store without a watch has its own reload"
        newest: Self = open_newest()
        return newest
