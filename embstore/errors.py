"""Errors, as a tree with a branch for each way to handle them.

Every error is also the builtin in brackets, for callers that do not import embstore's errors::

    EmbstoreError
    ├── IdTypeError            (TypeError)          ids that are not integers
    ├── IdRangeError           (IndexError)         an id outside of the table
    ├── MissingWordError       (KeyError)           a word outside of the vocabulary
    ├── PartitionSizeError     (ValueError)         sizes that the strategy does not give
    ├── SourceError            (ValueError)         input of a build: file, line, what to do
    │   └── RowError                                a row that cannot be stored
    │       └── DuplicateWordError                  its word came before
    ├── ExportError            (ValueError)         a word or dtype that a file format cannot hold
    ├── RemoteError            (OSError)            an object store or server fails
    └── StoreError                                  the store on disk
        ├── StoreNotFoundError (FileNotFoundError)  missing, or not a store
        │   └── StoreChangedError (ValueError)      another table is at the path of a copy
        ├── StoreExistsError   (FileExistsError)    the target of a build exists
        ├── StoreBusyError     (BlockingIOError)    another build or publisher writes there
        ├── StoreClosedError   (ValueError)         used after ``close()``
        ├── StoreMappingError  (OSError)            the system refuses to map it
        ├── StoreVersionError  (ValueError)         needs a newer embstore
        ├── FormatError        (ValueError)         a file that cannot be opened in place
        └── StoreCorruptError  (ValueError)         damaged: restore it or build it again

Errors of the system, such as a full disk, stay the ``OSError`` that was raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embstore.wording import function, option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class EmbstoreError(Exception):
    """The root of embstore's own errors.

    Errors are pickled and copied with their message, attributes and notes, so they arrive whole
    from another process.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by calling the class: several take other arguments than the message.
        reduced: Any = super().__reduce__()
        kind, arguments, *state = reduced
        return _restore, (kind, arguments), *state


def _restore(kind: type[EmbstoreError], arguments: tuple[Any, ...]) -> EmbstoreError:
    return kind.__new__(kind, *arguments)


class IdTypeError(EmbstoreError, TypeError):
    """Ids that are not integers."""


class IdRangeError(EmbstoreError, IndexError):
    """An id below 0, or at or above the table's row count."""


class MissingWordError(EmbstoreError, KeyError):
    """A word that is not in the vocabulary, or a store that has no vocabulary.

    Attributes
    ----------
    words : tuple of str
        All missing words, in request order.
    """

    def __init__(
        self, message: str, words: Iterable[str] = (), hint: Callable[[], str] | None = None
    ) -> None:
        super().__init__(message)
        self.words = tuple(words)
        self._hint = hint  # Computes the spelling hint when the message is shown.

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would quote a whole sentence.
        if self._hint is not None:
            self.args = (f"{self.args[0]}{self._hint()}",)
            self._hint = None
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        str(self)  # The hint needs the vocabulary, which a copy would not have.
        return super().__reduce__()


class PartitionSizeError(EmbstoreError, ValueError):
    """Partitions whose sizes do not fit their strategy."""


class SourceError(EmbstoreError, ValueError):
    """Input that cannot be stored."""


class RowError(SourceError):
    """A row that cannot be stored.

    Attributes
    ----------
    position : int
        Its position among the rows of the refused ``write``, from 0.
    problem : str
        What is wrong with the row.
    """

    def __init__(self, problem: str, position: int) -> None:
        super().__init__(f"row {position} of this write: {problem}")
        self.problem = problem
        self.position = position


class DuplicateWordError(RowError):
    """A word that the table already has.

    Parameters
    ----------
    word : str
    position : int
        As for `RowError`.
    first_id : int
        The id that the word has.
    is_stored : bool
        Whether the store has it; otherwise it came before in the same input.
    """

    def __init__(self, word: str, position: int, first_id: int, *, is_stored: bool = False) -> None:
        remedy = (
            f"remove one of the two, or keep the first with {option('on_duplicate', 'first')}, "
            "which drops the other row and so lowers later ids"
        )
        if is_stored:
            remedy = f"remove its row, or replace the one in the store with {function('upsert')}"
        super().__init__(f"the word {word!r} already has id {first_id}; {remedy}", position)


class ExportError(EmbstoreError, ValueError):
    """A store or a word that a file format cannot hold."""


class RemoteError(EmbstoreError, OSError):
    """An object store or a server that cannot be reached, refuses, or answers wrongly."""


class StoreError(EmbstoreError):
    """The root of errors about stores on disk."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """The path does not exist, or is not a store."""


class StoreChangedError(StoreNotFoundError, ValueError):
    """A pickled or copied store finds another table at its path."""


class StoreExistsError(StoreError, FileExistsError):
    """The target of a build exists already."""


class StoreBusyError(StoreError, BlockingIOError):
    """Another build or publisher is writing to the same target, or was first there."""


class StoreClosedError(StoreError, ValueError):
    """The store was closed."""


class StoreMappingError(StoreError, OSError):
    """The system refuses to map the store: too many files, or too many addresses."""


class StoreVersionError(StoreError, ValueError):
    """The store needs a newer embstore than this one."""


class FormatError(StoreError, ValueError):
    """A file whose rows cannot be addressed in place."""


class StoreCorruptError(StoreError, ValueError):
    """The store is damaged: its files contradict each other."""
