"""Opening of stores and foreign files, with every check that needs no reading of rows.

1. The options are settled. A URL is what `embstore.remote.place` finds there.
2. `embstore.opener` finds the format and makes the store. Of a store, it checks the metadata, and
   the sizes and last four bytes of chunk files; at a URL their sizes. ``verify="full"`` also reads
   all rows and words, with `embstore.verify`.
3. If a store on disk was replaced meanwhile, the steps may have seen two stores, so they are
   repeated.
"""

from __future__ import annotations

import os
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from embstore.errors import StoreChangedError, StoreCorruptError, StoreError, StoreNotFoundError
from embstore.formats.options import AUTO, OPENED_AS, as_block
from embstore.formats.own.manifest import as_partitions
from embstore.opener import Opener, OpenOptions, ReaderName, check_no_version, missing
from embstore.paths import as_path, as_url, url_of, without_credentials
from embstore.reading.files import StoreFiles, files_at
from embstore.reading.readers import check_row_cache
from embstore.reading.resident_limit import MIN_RESIDENT_BYTES
from embstore.settle import as_choice, as_flag, as_size, as_text
from embstore.verify import verify as verify_store
from embstore.wording import function, option, parameter
from embstore.writing.disk.replacement import finish_replacement

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from embstore.progress import OnProgress
    from embstore.store import EmbeddingStore

Verify = Literal["sizes", "full"]


def open(
    path: str | os.PathLike[str],
    *,
    tensor: str | None = None,
    scale: str | None = AUTO,
    scale_block: tuple[int, int] | None = None,
    encoding: str | None = None,
    zero_point: str | None = None,
    partitions: Iterable[int] | None = None,
    reader: ReaderName = "auto",
    verify: Verify = "sizes",
    resident_limit: int | str | None = None,
    preload: bool = False,
    row_cache: int | str | None = None,
    version: str | None = None,
    allow_http: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_limit: int | str | None = None,
    progress: OnProgress | None = None,
) -> EmbeddingStore:
    """Open a store, or a foreign file whose rows can be read in place.

    At a URL, rows and words are read from there when they are needed; see the page "Object
    stores" of the documentation. Credentials come from the environment.

    Files of a store may be symbolic links, as in a model cache; its directories may not. A chunk
    file that is a link is read whole when the store is opened, and its checksum is compared.

    Parameters
    ----------
    path : str or path-like
        The directory of a store; a ``.npy`` file; a ``.gguf`` file; a ``.safetensors`` file, an
        index of several (``*.index.json``), or the directory that holds them, with or without an
        index. Nothing is copied or written. Or the URL of one of these, such as
        ``s3://bucket/glove``, also ``gs:``, ``az:``, ``https:`` and ``file:``; or that of a store
        that `embstore.publish` has written, which means its current version. A web server cannot
        list files, so there a model is opened by the URL of its file or index.
    tensor : str, optional
        The tensor to open, by its whole name. Not needed if only one of them can be a table;
        `embstore.tables` lists them. ``{}`` in the name stands for a number: in
        ``"embed.shard_{}.weight"``, for the parts of one table, which follow each other in the
        order of their numbers, from 0 or 1 on. Everything else in a name is itself.
    scale : str, optional
        The tensor by which the numbers are multiplied, by its whole name; ``{}`` in it stands for
        the numbers of the parts, each of which then has a scale. It has one number for the table,
        for each row, for each of several groups of a row, or for each block of rows and values.
        ``"auto"`` takes one whose name tells that it belongs to the tensor: for ``x.weight``, these
        are ``x.weight_scale``, ``x.weight_scale_inv`` and ``x.scale``; they are all multiplied by.
        Numbers of 16 bits or more have no scale. ``None`` means no scale. ``embstore info`` says
        which one was taken. In Python, the store's ``repr`` and its ``source`` do, too.
    scale_block : tuple of two int, optional
        The rows, and the values of a row, that share a scale. Needed where the shape of the scales
        fits several such blocks: 160 values in two groups may be 80 and 80, or 128 and 32.
    encoding : str, optional
        The numbers that a tensor of bytes holds, such as ``"float4_e2m1fn"`` or ``"int4"``. Of two
        numbers in a byte, the low nibble is the first. ``"opaque"`` gives rows of bytes of any
        tensor.
    zero_point : str, optional
        The tensor of zero points, which are subtracted before the numbers are scaled. It is named
        and shaped as that of the scales.
    partitions : iterable of int, optional
        The partitions to open, ascending, as in 0,3, for a machine that has only their files; by
        default all. The other partitions are not looked at, and a lookup of their ids is refused,
        as is what needs all rows. In Python, this raises an `IdRangeError`. If the directory
        ``vocabulary`` is missing, the store has no words here.
    reader : {"auto", "mapped", "chunked"}
        ``"mapped"`` copies rows from memory-mapped files. ``"chunked"`` reads files when rows are
        needed, those of a store chunk by chunk, and checks the checksums of chunks. ``"auto"`` maps
        where supported; where the system refuses more mappings, it reads files, which is slower.
    verify : {"sizes", "full"}
        How much of a store to check first. ``"sizes"`` checks all metadata by its checksums, and
        that each chunk file exists, has the expected size and belongs to this store. ``"full"``
        also reads all rows and words and checks their checksums, as `embstore.verify` does; an
        unpickled copy is not verified again. A foreign file has no checksums, so it takes only
        ``"sizes"``. So does a URL, where the last bytes of chunk files are not looked at, because
        that would take a request each; ``store.fingerprint(full=True)`` reads and checks it all.
    resident_limit : int or str, optional
        The most of the mapping that may count as this process's memory, in bytes or as in
        ``"2GiB"``; at least 64 MiB. Scales in other tensors share it with the numbers. Unmapped
        pages stay in the page cache. ``"chunked"`` maps nothing, so it stays within any limit.
    preload : bool
        Read everything into RAM first, and map it by huge pages where supported. Not for
        ``"chunked"``, which keeps nothing in RAM, or for a compressed store.
    row_cache : int or str, optional
        Memory for copies of the rows that are looked up most, in bytes or as in ``"2GiB"``: for
        memory that is smaller than the table, where the page cache would keep 4 KiB or more for
        each of them. What it holds is learned from the lookups, and `EmbeddingStore.warm` can fill
        it. Encoded rows are kept as they are stored; scales in other tensors are not kept. It
        counts toward ``resident_limit``, and leaves 100 MiB of the free memory of the machine and
        of the process's control groups to the page cache. A copy or an unpickled store has another
        such cache. Needs a mapping, and is not for ``preload``. Of a compressed store,
        it is the memory for decoded rows, by default 64 MiB, or a quarter of ``resident_limit``.
    version : str, optional
        A version of a store published at a URL: its name, or its fingerprint, which means its
        newest layout. By default the current version.
    allow_http : bool
        Whether requests may go to another machine by plain http, which anyone between can read and
        change.
    cache_dir : str or path-like, optional
        A directory on a local disk, for a store at a URL: files of the store that are used much are
        fetched whole, checked and mapped, and other processes find them there. Rows of other files
        are read by range meanwhile, and if the disk is full or fails. The words come whole, too.
        Not for foreign files, which have no checksums, nor with ``row_cache``, unless the store is
        compressed. With it, ``preload`` fetches everything first.
    cache_limit : int or str, optional
        The most bytes that all files in ``cache_dir`` may have, those of other stores and processes
        included, in bytes or as in ``"50GiB"``. Files that were used least recently are removed. By
        default, a twentieth of the disk is left free, or 1 GiB.
    progress : callable, optional
        Called with an `embstore.Progress`: the bytes verified and their total, then the bytes
        preloaded and their total.

    Returns
    -------
    EmbeddingStore
        The open store. That of a foreign file has no words, and one partition.

    Raises
    ------
    StoreNotFoundError
        If the path is neither a store nor a file that can be opened.
    StoreVersionError
        If the store needs a newer embstore.
    StoreCorruptError
        If a file of a store is missing, has another size, is from another build, or contradicts the
        manifest; under ``"full"``, if anything is damaged. If the header of a foreign file is
        wrong, or the file is truncated.
    FormatError
        If the rows of a foreign file cannot be read in place; the message says whether
        `embstore.build` can read them. If there are several tables or none of the name, parts are
        missing or differ, or it is in doubt what the bytes are or which scale belongs to them; the
        message lists what is there, or the possible readings.
    StoreMappingError
        If the system refuses a mapping that ``reader="mapped"``, ``preload`` or ``row_cache``
        needs: too many files, or too much address space.
    RemoteError
        If an object store cannot be reached, refuses or answers wrongly, or there are no
        credentials for it. Lookups raise it too.
    TypeError, ValueError
        If an option has a wrong type or value; if the store does not have one of ``partitions``; if
        ``verify="full"`` is used with a foreign file,
        ``preload`` with ``reader="chunked"``, or ``row_cache`` with either of these two; if
        ``row_cache`` is too small for a row, or larger than the free memory or ``resident_limit``
        allows. If ``reader="mapped"``, ``preload``, ``row_cache`` or ``verify="full"`` is used with
        a URL (``row_cache`` is fine if the store is compressed), or ``version`` with a path.
    ImportError
        If a URL needs obstore, which ``pip install "embstore[remote]"`` installs.

    Examples
    --------
    >>> with embstore.open("words.embstore") as store:
    ...     store.shape
    (11, 8)
    >>> np.save("rows.npy", np.arange(12.0).reshape(4, 3))
    >>> with embstore.open("rows.npy") as store:
    ...     store[[3, 0]]
    array([[ 9., 10., 11.],
           [ 0.,  1.,  2.]])
    """
    url = as_url(path)
    reader = as_choice(reader, "reader", get_args(ReaderName))
    verify = as_choice(verify, "verify", get_args(Verify))
    limit: int | None = None
    if resident_limit is not None:
        limit = as_size(resident_limit, "resident_limit", low=MIN_RESIDENT_BYTES)
    preload = as_flag(preload, "preload")
    if preload and reader == "chunked":
        raise ValueError(
            f"{option('preload', True)} reads a mapping into RAM, but "
            f"{option('reader', 'chunked')} maps nothing; leave one of the two out"
        )
    cache: int | None = None
    if row_cache is not None:
        cache = as_size(row_cache, "row_cache", low=1)
        check_row_cache(cache, limit, reader, preload=preload)
    options = OpenOptions(
        reader,
        limit,
        preload,
        cache,
        tensor=None if tensor is None else as_text(tensor, "tensor"),
        scale=None if scale is None else as_text(scale, "scale"),
        scale_block=as_block(scale_block),
        encoding=None if encoding is None else as_choice(encoding, "encoding", OPENED_AS),
        zero_point=None if zero_point is None else as_text(zero_point, "zero_point"),
        partitions=as_partitions(partitions),
        version=None if version is None else as_text(version, "version"),
        allow_http=as_flag(allow_http, "allow_http"),
        cache_dir=_as_cache_dir(cache_dir, path if url is None else None, reader),
        cache_limit=None if cache_limit is None else as_size(cache_limit, "cache_limit", low=1),
    )
    if cache_limit is not None and cache_dir is None:
        raise ValueError(
            f"{parameter('cache_limit')} limits the files in {parameter('cache_dir')}; give "
            f"{parameter('cache_dir')}, too"
        )
    if url is not None:
        return _open_url(url, options, verify, progress)
    where = as_path(path, "path").absolute()
    check_no_version(version, where)
    while True:
        finish_replacement(where)
        before = StoreFiles(where).identity
        try:
            store = _open_path(where, options, verify, progress)
        except (StoreError, FileNotFoundError):
            if StoreFiles(where).identity == before:
                raise
        else:
            if StoreFiles(where).identity == before:
                return store


def _as_cache_dir(
    value: str | os.PathLike[str] | None, path: str | os.PathLike[str] | None, reader: ReaderName
) -> str | None:
    """Return the directory of a cache, absolute.

    Parameters
    ----------
    value : str or path-like, optional
        What the caller gave.
    path : str or path-like, optional
        What is opened, if it is not at a URL.
    reader : str
        The reader that is asked for.
    """
    if value is None:
        return None
    directory = as_path(value, "cache_dir")
    if (url := url_of(directory)) is not None:
        raise ValueError(
            f"{parameter('cache_dir')} must be a directory on a local disk, not {url!r}"
        )
    if path is not None:
        raise ValueError(
            f"{parameter('cache_dir')} keeps files of a store at a URL, and {os.fspath(path)} is "
            f"on a local disk already; leave {parameter('cache_dir')} out"
        )
    if reader == "chunked":
        raise ValueError(
            f"{option('cache_dir')} keeps files that are mapped, but "
            f"{option('reader', 'chunked')} maps nothing; leave one of the two out"
        )
    return str(directory.absolute())


def _open_path(
    path: Path, options: OpenOptions, verify: Verify, progress: OnProgress | None
) -> EmbeddingStore:
    if not (path.is_dir() or path.is_file()):
        raise StoreNotFoundError(missing(path))
    recipe = _reopen, (str(path), options)
    newest = partial(_open_newest, str(path), options, verify)
    opener = Opener(path, *files_at(path), options, recipe, newest)
    check = partial(_verify, path, options.partitions, progress) if verify == "full" else None
    return opener.open(progress, check)


def _open_url(
    url: str, options: OpenOptions, verify: Verify, progress: OnProgress | None
) -> EmbeddingStore:
    # Imported here because only URLs need it.
    from embstore.remote.place import place_at  # noqa: PLC0415

    shown = without_credentials(url)
    if options.reader == "mapped" or (options.preload and options.cache_dir is None):
        what = "preload=True" if options.preload else 'reader="mapped"'
        how = f", or give {parameter('cache_dir')}" if options.preload else ""
        raise ValueError(
            f"{what} needs files on a local disk, and {shown} is a URL; leave it out{how}"
        )
    if verify == "full":
        raise ValueError(
            f'verify="full" reads all files, and {shown} is a URL; copy the store to '
            f"a disk, and use {function('verify')} there"
        )
    place = place_at(url, options.version, allow_http=options.allow_http)
    options = replace(options, version=place.version)
    recipe = _reopen, (place.url, options)
    newest = partial(_open_newest, place.url, replace(options, version=None), verify)
    return Opener(place.url, place.files, place.name, options, recipe, newest).open(progress)


def _reopen(path: str, options: OpenOptions, identity: object) -> EmbeddingStore:
    """Open a store again, for a copy or an unpickled one, and check that it is the same table."""
    store = _open_newest(path, options, "sizes")
    if store.identity == identity:
        return store
    found = repr(store)
    store.close()
    why = "" if store.is_store else " (its size or modification time, or its rows)"
    raise StoreChangedError(
        f"{path} is another table than the one that was pickled or copied{why}; it is {found} now. "
        "Open it again, or put the old one back"
    )


def _open_newest(path: str, options: OpenOptions, verify: Verify) -> EmbeddingStore:
    """Open what is at a path or URL now."""
    given = {field.name: getattr(options, field.name) for field in fields(options)}
    return open(path, verify=verify, **given)


def _verify(path: Path, partitions: tuple[int, ...] | None, progress: OnProgress | None) -> None:
    problems = verify_store(path, partitions=partitions, progress=progress).problems
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise StoreCorruptError(f"{problems[0]}{more}")
