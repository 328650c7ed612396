"""Files of the view for gensim: word2vec's format in and out, and what gensim saved."""

from __future__ import annotations

import codecs
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, get_args

import numpy as np

from embstore.dtypes import as_dtype
from embstore.errors import SourceError, StoreNotFoundError
from embstore.export import new_file
from embstore.interop.gensim.beside import of_saved, of_vectors, read_counts
from embstore.interop.gensim.expandos import COUNT, Expandos
from embstore.interop.gensim.keyed import Keyed
from embstore.interop.gensim.named_files import packing
from embstore.opening import open as open_store
from embstore.paths import as_path, as_url
from embstore.row_blocks import RowBlock
from embstore.settle import as_choice, as_count, as_flag, as_text
from embstore.sinks import TableFacts
from embstore.sinks.text import write_glove, write_word2vec
from embstore.sinks.word2vec_binary import write_records, write_word2vec_binary
from embstore.sources import EncodingErrors
from embstore.vocabulary.words import pack

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from embstore.store import EmbeddingStore

ROWS_AT_ONCE = 4096
_ENCODINGS = "utf-8", "utf-8-sig", "ascii"  # As Python calls them. UTF-8 covers all three.
# How to write by whether it is binary, and whether there is a header.
_WRITERS: dict[tuple[bool, bool], Callable[..., None]] = {
    (False, False): write_glove,
    (False, True): write_word2vec,
    (True, False): write_records,
    (True, True): write_word2vec_binary,
}


class FileMethods(Keyed):
    """Methods that build, open and write."""

    @classmethod
    def load(cls, fname: str | os.PathLike[str], mmap: str | None = None) -> Self:
        """Open a store, or what gensim's ``save`` wrote.

        Parameters
        ----------
        fname : str or path-like
            The path or URL of a store; or a file that gensim saved, which is built into a store
            beside it once (``fname.embstore``). Such a file is a pickle: loading it runs what it
            says, in gensim as here.
        mmap : {"r", "c"}, optional
            Without a meaning: a store is memory-mapped anyway.

        Raises
        ------
        ImportError
            If gensim saved the file, and is not installed.
        StoreError, SourceError
            As `embstore.open` and `embstore.build`.
        """
        if mmap is not None:
            as_choice(mmap, "mmap", ("r", "c"))
        if as_url(fname) is not None or Path(fname).is_dir():
            return cls(open_store(fname))
        path = as_path(fname, "fname")
        if not path.exists():
            raise StoreNotFoundError(f"{path} does not exist; expected a store or a saved file")
        return cls(of_saved(path))

    @classmethod
    def load_word2vec_format(
        cls,
        fname: str | os.PathLike[str],
        fvocab: str | os.PathLike[str] | None = None,
        binary: bool = False,
        encoding: str = "utf8",
        unicode_errors: str = "strict",
        limit: int | None = None,
        datatype: Any = np.float32,
        no_header: bool = False,
    ) -> Self:
        """Build a store of a file in word2vec's format beside it, or open the one that is there.

        Parameters
        ----------
        fname : str or path-like
            The file. The store is ``fname.embstore``; it is built again when the file is newer or
            of another size, or the options are others.
        fvocab : str or path-like, optional
            A file of words and their counts, which become the attribute ``"count"``; 0 for words
            that it does not have. It may be compressed (``.gz``, ``.bz2``, ``.xz``), as ``fname``.
        binary : bool
            Whether the file is in word2vec's binary format.
        encoding : str
            Must be UTF-8, or ASCII.
        unicode_errors : {"strict", "replace", "ignore"}
            What to do with bytes that are not UTF-8.
        limit : int, optional
            Number of rows to read; by default all.
        datatype : dtype
            Dtype of the stored numbers.
        no_header : bool
            Whether the file has no line of counts at its top, as GloVe's files.

        Raises
        ------
        FileNotFoundError
            If the file is missing.
        SourceError
            If the file is not of this format; see `embstore.build`.
        UnicodeDecodeError
            If a word is not UTF-8, under ``"strict"``.
        ValueError
            If ``encoding`` or ``unicode_errors`` is none of these, or a binary file is to have no
            header.
        PermissionError
            If no store can be made beside the file.
        """
        path = as_path(fname, "fname")
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; expected a file of vectors")
        if path.is_dir():
            raise SourceError(f"{path} is not a file; KeyedVectors.load opens a store")
        if codecs.lookup(as_text(encoding, "encoding")).name not in _ENCODINGS:
            raise ValueError(f"encoding must be utf8, not {encoding!r}; convert the file first")
        unicode_errors = as_choice(unicode_errors, "unicode_errors", get_args(EncodingErrors))
        binary, no_header = as_flag(binary, "binary"), as_flag(no_header, "no_header")
        if binary and no_header:
            raise ValueError("a binary file has a header; no_header=True is for text")
        kind = "word2vec-binary" if binary else "glove" if no_header else "word2vec"
        options: dict[str, Any] = {"format": kind}
        if limit is not None:
            options["limit"] = as_count(limit, "limit", low=1)
        if unicode_errors != "strict":
            options["encoding_errors"] = unicode_errors
        dtype = as_dtype(datatype)
        counts = None if fvocab is None else read_counts(as_path(fvocab, "fvocab"), unicode_errors)
        return cls(of_vectors(path, dtype, options, counts))

    def save_word2vec_format(
        self,
        fname: str | os.PathLike[str],
        fvocab: str | os.PathLike[str] | None = None,
        binary: bool = False,
        total_vec: int | None = None,
        write_header: bool = True,
        prefix: str = "",
        append: bool = False,
        sort_attr: str = COUNT,
    ) -> None:
        """Write the words and vectors in word2vec's format.

        Numbers of text are written in the shortest digits that give the same number back. A file
        that exists is replaced when the new one is whole.

        Parameters
        ----------
        fname : str or path-like
            The file; it is compressed if its name ends in ``.gz``, ``.bz2`` or ``.xz``.
        fvocab : str or path-like, optional
            A file for the words and their counts, likewise.
        binary : bool
            Whether to write the binary format, whose numbers are float32.
        total_vec : int, optional
            The number of vectors that the header says; by default that of the store.
        write_header : bool
            Whether to write the header; text without one is GloVe's format.
        prefix : str
            What to put in front of each word.
        append : bool
            Whether to write at the end of the file instead of replacing it.
        sort_attr : str
            The attribute by which to sort, the highest value first; where the store does not have
            it, words are in the order of ids.

        Raises
        ------
        ExportError
            If the format cannot hold a word or the numbers.
        ValueError
            If a new binary file is to have no header, or ``fvocab`` is given and the attribute
            missing.
        """
        binary, write_header = as_flag(binary, "binary"), as_flag(write_header, "write_header")
        append = as_flag(append, "append")
        if binary and not write_header and not append:
            raise ValueError("a binary file without a header cannot be read; leave write_header")
        attributes = Expandos(self.store)
        counts = attributes.get(sort_attr)
        if fvocab is not None and counts is None:
            raise ValueError(
                f"the store has no attribute {sort_attr!r} to write to {fvocab}; it has "
                f"{', '.join(attributes)}"
            )
        order = np.arange(len(self))
        if counts is not None:  # In descending order; words of equal counts keep theirs.
            order = order[::-1][np.argsort(np.asarray(counts)[::-1], kind="stable")[::-1]]
        store = self.store
        dtype = np.dtype(np.float32) if binary else store.dtype
        total = len(self) if total_vec is None else as_count(total_vec, "total_vec")
        table = TableFacts(total, store.row_shape, dtype, store.has_words)
        with _opened(fname, append=append) as file:
            _WRITERS[binary, write_header](file, table, _blocks(store, order, prefix, dtype))
        if fvocab is not None and counts is not None:
            with _opened(fvocab, append=append) as file:
                for ids in _pieces(order):
                    pairs = zip(self.store.words(ids), counts[ids], strict=True)
                    file.write("".join(f"{prefix}{word} {n}\n" for word, n in pairs).encode())


@contextmanager
def _opened(path: str | os.PathLike[str], *, append: bool) -> Iterator[IO[bytes]]:
    """Open a file to write, which appears, or gets longer, when all is written."""
    target = as_path(path, "fname").absolute()
    if not append:
        with new_file(target, overwrite=True) as file, packing(target, file) as packed:
            yield packed
        return
    with tempfile.TemporaryFile(dir=target.parent) as written:
        with packing(target, written) as packed:
            yield packed
        written.seek(0)
        with target.open("ab") as end:
            shutil.copyfileobj(written, end)


def _pieces(order: Any) -> Iterator[Any]:
    for start in range(0, len(order), ROWS_AT_ONCE):
        yield order[start : start + ROWS_AT_ONCE]


def _blocks(
    store: EmbeddingStore, order: Any, prefix: str, dtype: np.dtype[Any]
) -> Iterator[RowBlock]:
    """Yield the rows and words of ids in some order."""
    start = 0
    for ids in _pieces(order):
        words = [prefix + word for word in store.words(ids)]
        yield RowBlock(start, store.lookup(ids).astype(dtype, copy=False), pack(words))
        start += len(ids)
