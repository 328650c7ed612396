"""Kinds of files, told apart by their first bytes, whatever they are called.

`KINDS` is the table. A line says how a kind is recognised, and what becomes of it: it is
decompressed, a member is taken out of it, it is read as the format of its name, or it is refused
with a remedy. To know another kind of file, add a line. The first line that matches decides, so
exact magic bytes come first. What no line matches is text.

What an archive is follows from its members; `ARCHIVED` is the table for those.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from embstore.formats import FORMATS
from embstore.sources.files.archives import TAR, ZIP, Archive, is_tar
from embstore.sources.files.decompress import bunzip2, gunzip, unlz4, unlzma, unxz, unzstd
from embstore.sources.files.signs import (
    exactly,
    is_binary,
    is_hdf5,
    is_markup,
    is_old_fasttext,
    is_tf_record,
    is_word2vec_binary,
    is_zeros,
    is_zlib,
    like,
    starts,
)
from embstore.wording import and_pass

if TYPE_CHECKING:
    from collections.abc import Callable

# The first bytes of a file that decide.
START_BYTES = 64 << 10
# Names of kinds without magic bytes.
UNCLAIMED = ("old-fasttext", "zeros", "binary")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    name : str
        Its name; that of its format, if it is read.
    what : str
        What such a file is, for messages.
    matches : callable
        Tells whether a file is of this kind from its first bytes and its name; for an archive, from
        the list of its members and its name.
    remedy : str
        What to do with a file that is not read; empty if it is read.
    passed : str
        What the remedy loads, if a program can pass it on.
    decompress : callable, optional
        Returns the decompressed bytes of an open file.
    archive : Archive, optional
        How its members are read.
    """

    name: str
    what: str
    matches: Callable[[Any, str], bool]
    remedy: str = ""
    decompress: Callable[[IO[bytes]], Any] | None = None
    archive: Archive | None = None
    passed: str = ""

    def what_to_do(self) -> str:
        """Return the remedy, for messages."""
        return f"{self.remedy}, {and_pass(self.passed)}" if self.passed else self.remedy


def find_kind(start: bytes, name: str) -> Kind:
    """Return the kind of a file with these first bytes."""
    return next((kind for kind in KINDS if kind.matches(start, name)), TEXT)


def find_archived(members: list[str], name: str) -> Kind | None:
    """Return the kind of an archive with these members; None for an archive of any files."""
    return next((kind for kind in ARCHIVED if kind.matches(members, name)), None)


def _has(*names: str) -> Callable[[list[str], str], bool]:
    return lambda members, _: any(member in names for member in members)


def _ends(suffix: str) -> Callable[[list[str], str], bool]:
    return lambda members, _: any(member.endswith(suffix) for member in members)


_POINTER = "it only names a file that is elsewhere; fetch that file: "
_FAILED = "the download failed, or needs a login; look into the file, and fetch it again"
_EXTRACT = "extract it first"
_UNPACK = "decompress it first"
_WRONG = "expected vectors; is this the right file?"
_OBJECT = "the object"
_CODE = ", which could run any code when it is loaded"
_PICKLE = "load it with the library that wrote it (gensim, torch, joblib)"
_JSON = (
    rb"\{\s*\"(\\.|[^\"\\\n])*\"\s*:|\{\s*'[^'\n]*'\s*:|\{\s*\}\s*$"
    rb"|\[\s*\[\s*[-\d\"]|\[\s*\{\s*\"|\[\s*\"(\\.|[^\"\\\n])*\"\s*[,\]]"
)
_OUTS = rb"((md5|wdir|frozen|deps|cmd|desc|meta):[^\n]*\n[^\0]{0,2000}?)?outs:\s*\n\s*- "
_PROTOCOLS_0_TO_5 = (
    rb"\x80[\2-\5]|\(+([dl]p\d+\n|[VS][^\n]*\np\d+\n|[FIL][-\d.eL]+\n)|\(?[\]}]q\0|ZF0x"
    rb"|c(numpy|copy_?reg|__builtin__|builtins|collections|gensim|torch|scipy|pandas|sklearn)"
    rb"[\w.]*\n\w+\n(p\d+\n|q.|\()"
)
_PICTURES = rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*|RIFF.{4}WEBP|BM.{4}\0{4}"

TEXT = Kind("text", "a text file", lambda _start, _name: True)
KINDS = (
    # UTF-16 and UTF-32 with a mark are text.
    Kind(
        "text",
        "a text file",
        starts(codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE),
    ),
    # Compressed files.
    Kind("gzip", "a gzip file", starts(b"\x1f\x8b\x08"), decompress=gunzip),
    Kind("bz2", "a bz2 file", exactly(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), decompress=bunzip2),
    Kind("xz", "an xz file", starts(b"\xfd7zXZ\0"), decompress=unxz),
    Kind("lzma", "an lzma file", exactly(rb"]\0\0.{2}(\xff{8}|.{5}\0{3})"), decompress=unlzma),
    Kind(
        "zstd", "a zstd file", exactly(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\*M\x18"), decompress=unzstd
    ),
    Kind("lz4", "an lz4 file", starts(b"\x04\x22\x4d\x18"), decompress=unlz4),
    # Archives.
    Kind("zip", "a zip archive", starts(b"PK\3\4", b"PK\5\6", b"PK\7\x08", b"PK00PK"), archive=ZIP),
    Kind("tar", "a tar archive", lambda start, _: is_tar(start), archive=TAR),
    # Formats with readers of their own.
    Kind("parquet", "a Parquet file", exactly(rb"PAR1[^\t\r\n ]")),
    Kind("arrow", "an Arrow file", starts(b"ARROW1\0", b"\xff\xff\xff\xff")),
    *(Kind(format.name, f"a file of {format.name}", format.matches) for format in FORMATS),
    # Files that stand for another one.
    Kind(
        "git-lfs",
        "a pointer of git-lfs",
        like(rb"version https://(git-lfs|hawser)\.github\.com/"),
        _POINTER + "git lfs pull",
    ),
    Kind(
        "git-annex",
        "a pointer of git-annex",
        like(rb"[./\\]*(git)?[/\\]?annex[/\\]objects[/\\]"),
        _POINTER + "git annex get",
    ),
    Kind("dvc", "a pointer of DVC", like(_OUTS), _POINTER + "dvc pull"),
    Kind("xet", "a pointer of Xet", like(rb"# xet version "), _POINTER + "git xet checkout"),
    Kind(
        "torrent",
        "a torrent",
        like(rb"d\d+:(announce(-list)?|created by|comment|creation date|info)[\dild]"),
        _POINTER + "open it with a BitTorrent client",
    ),
    Kind("html", "an HTML or XML page", is_markup, _FAILED),
    Kind(
        "json",
        "a JSON file",
        like(_JSON),
        "load it with the json module",
        passed="the {word: vector} dict or the list of rows",
    ),
    # Models, tables and arrays of other libraries.
    Kind(
        "fasttext",
        "a fastText model",
        starts((793712314).to_bytes(4, "little")),
        "use the .vec file that fastText writes beside it",
    ),
    Kind("hdf5", "an HDF5 file", is_hdf5, "open it with h5py", passed="the data set"),
    Kind(
        "ggml",
        "a GGML file",
        exactly(rb"(lmgg|fmgg|tjgg|algg)..\0\0"),
        "read the tensor with the library that wrote it",
        passed="the array",
    ),
    Kind("pickle", f"a pickle{_CODE}", exactly(_PROTOCOLS_0_TO_5), _PICKLE, passed=_OBJECT),
    Kind(
        "zlib",
        f"compressed by zlib, as joblib compresses a pickle{_CODE}",
        is_zlib,
        _PICKLE,
        passed=_OBJECT,
    ),
    Kind(
        "sqlite",
        "an SQLite database, as .magnitude files are",
        starts(b"SQLite format 3\0"),
        "read the vectors with the library that wrote it (pymagnitude, sqlite3)",
        passed="the array",
    ),
    Kind(
        "duckdb",
        "a DuckDB database",
        exactly(rb".{8}DUCK.\0"),
        "write the table as Parquet: COPY name TO 'vectors.parquet'",
    ),
    Kind(
        "lmdb",
        "an LMDB database",
        starts(b"\xde\xc0\xef\xbe", at=16),
        "read it with the lmdb library",
        passed="(word, vector) pairs",
    ),
    Kind(
        "matlab",
        "a MATLAB file",
        exactly(rb"MATLAB \d\.\d MAT-file"),
        "load it with scipy.io.loadmat",
        passed="the array",
    ),
    Kind(
        "torch7",
        "a file of Lua Torch",
        exactly(rb"[\3\4]\0{3}.{8}V 1|[34]\n\d+\n(\d+\n)?V 1\n"),
        "load it with the torchfile library",
        passed="the array",
    ),
    Kind(
        "rds",
        "a file of R",
        exactly(rb"RD[AX][23]\n|X\n\0\0\0[\2\3]|A\n[23]\n\d{5,6}\n\d{5,6}\n"),
        "write the matrix as text from R: write.table(m, 'm.txt', quote=FALSE, col.names=FALSE)",
    ),
    Kind(
        "encrypted-parquet", "an encrypted Parquet file", exactly(rb"PARE[^\t\r\n ]"), "decrypt it"
    ),
    Kind("avro", "an Avro file", starts(b"Obj\1"), "convert it to Parquet"),
    Kind("orc", "an ORC file", exactly(rb"ORC.{0,64}[\0-\x08]"), "convert it to Parquet"),
    Kind("feather", "a Feather file of version 1", exactly(rb"FEA1\0"), "convert it to Parquet"),
    Kind(
        "tfrecord",
        "a file of TensorFlow records or events",
        is_tf_record,
        "read the vectors with tensorflow",
        passed="the array",
    ),
    Kind(
        "tf-checkpoint",
        "the index of a TensorFlow checkpoint",
        exactly(rb"\0\0.\x08.{1,4}\x1a\x02\x08"),
        "read the variable with tf.train.load_checkpoint",
        passed="the array",
    ),
    Kind(
        "protobuf",
        "a model in protocol buffers, as of ONNX or TensorFlow",
        exactly(rb"\x08[\1-\x20][\x12\x1a\x22\x2a\x32\x3a\x42]"),
        "read the tensor with the library that wrote it (onnx, tensorflow)",
        passed="the array",
    ),
    # Documents and programs.
    Kind("pdf", "a PDF document", like(rb"%PDF-\d\.\d\s*(%|\d+ \d+ obj)"), _FAILED),
    Kind("7z", "a 7z archive", starts(b"7z\xbc\xaf\x27\x1c"), _EXTRACT),
    Kind("rar", "a RAR archive", starts(b"Rar!\x1a\x07"), _EXTRACT),
    Kind("cabinet", "a Cabinet archive", starts(b"MSCF\0\0\0\0"), _EXTRACT),
    Kind("compress", "a .Z file", starts(b"\x1f\x9d", b"\x1f\xa0"), f"{_UNPACK}: gzip -d"),
    Kind("lzip", "an lzip file", starts(b"LZIP\1"), f"{_UNPACK}: lzip -d"),
    Kind("lzop", "an lzop file", starts(b"\x89LZO\0"), f"{_UNPACK}: lzop -d"),
    Kind("snappy", "a Snappy file", starts(b"\xff\6\0\0sNaPpY"), _UNPACK),
    Kind("program", "a program", exactly(rb"\x7fELF|MZ.\0|\xcf\xfa\xed\xfe"), _WRONG),
    Kind("image", "an image", exactly(_PICTURES), _WRONG),
    Kind("office", "an Office document", starts(b"\xd0\xcf\x11\xe0\xa1\xb1"), "save it as CSV"),
    # Without magic bytes.
    Kind("word2vec-binary", "in word2vec's binary format", is_word2vec_binary),
    Kind(
        "zeros",
        "filled with zero bytes",
        is_zeros,
        "its download reserved the space, but did not finish; fetch it again",
    ),
    Kind(
        "old-fasttext",
        "a fastText model of the first version",
        is_old_fasttext,
        "use the .vec file that fastText writes beside it",
    ),
    Kind(
        "binary",
        "a binary file of an unknown kind",
        is_binary,
        "convert it to .npy, .safetensors, Parquet or text; if it is UTF-16 text, save it as UTF-8",
    ),
)
ARCHIVED = (
    Kind("pickle", f"a pickle of torch{_CODE}", _ends("data.pkl"), _PICKLE, passed=_OBJECT),
    Kind(
        "pickle", f"a pickle of torch{_CODE}", _has("storages", "tensors"), _PICKLE, passed=_OBJECT
    ),
    Kind("office", "an Office document", _has("[Content_Types].xml", "mimetype"), "save it as CSV"),
    Kind(
        "keras",
        "a Keras model",
        _has("model.weights.h5"),
        "load it with keras, take the weights of its embedding layer",
        passed="the array",
    ),
    Kind("npz", "an .npz file", _ends(".npy")),
)
