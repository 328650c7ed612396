"""Archives with one table in them: tar and zip, as systems make them, intact and damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import SourceError
from embstore.sources.files import archives
from tests.helpers.sources import assert_same, read

if TYPE_CHECKING:
    from pathlib import Path

TEXT = b"the 1 2\nlike 3 4\n"
ROWS = np.array([[1, 2], [3, 4]], np.float32)
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
PACK: dict[str, Any] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}
SIDE = {"._t.txt": b"\0\5\x16\7" + bytes(60), "__MACOSX/._t.txt": b"x", ".DS_Store": bytes(30)}
SIDE |= {"folder/._t.txt": b"x", "Thumbs.db": b"x", "folder/desktop.ini": b"x"}


def tar_of(members: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.fixture
def file(tmp_path: Path):
    def file(data: bytes, name: str = "t.txt") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return file


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize("name", ["t.txt", "a/b/t.txt", "d/" + "ü" * 40 + ".txt"])
def test_tar_of_one_file(file, format, pack, name):
    path = file(PACK[pack](tar_of({name: TEXT}, format)))
    words, rows = read(path)
    assert words == ["the", "like"]
    assert_same(rows, ROWS)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("length", [100, 101, 155, 600, 5000])
def test_long_names_in_tars(file, format, length):
    name = "folder/" + "n" * length
    path = file(tar_of({name: TEXT, "other.txt": b"x 1\n"}, format))
    assert read(path, member=name)[0] == ["the", "like"]
    with pytest.raises(SourceError, match="has 2 members: folder/nnn"):
        read(path)


@pytest.mark.parametrize("pack", [*PACK, "zip"])
def test_side_files_and_folders_are_not_members(file, pack):
    members = dict(list(SIDE.items())[:3]) | {"folder/t.txt": TEXT} | SIDE
    data = zip_of(members) if pack == "zip" else PACK[pack](tar_of(members))
    assert read(file(data))[0] == ["the", "like"]


@pytest.mark.parametrize("pack", [*PACK, "zip"])
@pytest.mark.parametrize("listed", [0, 1 << 20])
def test_archives_of_several_files(file, tmp_path, monkeypatch, pack, listed):
    monkeypatch.setattr(archives, "_LISTED_BYTES", listed)
    members = {"a.txt": TEXT, "b.txt": b"x 5\n", "c/d.txt": b"y 6 7 8\n"}
    data = zip_of(members) if pack == "zip" else PACK[pack](tar_of(members))
    path = file(data)
    with pytest.raises(SourceError, match=r"members: a\.txt, b\.txt.*member="):
        embstore.build(path, tmp_path / "s")
    assert list(tmp_path.iterdir()) == [path]
    assert_same(read(path, member="a.txt")[1], ROWS)
    assert_same(read(path, member="b.txt")[1], np.array([[5]], np.float32))
    if not listed or pack in ("tar", "zip"):
        return
    with pytest.raises(SourceError, match=r"no member 'e'; it has: a\.txt, b\.txt, c/d\.txt"):
        read(path, member="e")


@pytest.mark.parametrize("pack", [*PACK, "zip"])
def test_a_member_twice_is_refused(file, tmp_path, pack):
    out = io.BytesIO()
    if pack == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("t.txt", TEXT)
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("t.txt", TEXT + b"more 5 6\n")
    else:
        with tarfile.open(fileobj=out, mode="w") as tar:
            for data in (TEXT, TEXT + b"more 5 6\n"):
                info = tarfile.TarInfo("t.txt")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    path = file(PACK.get(pack, bytes)(out.getvalue()))
    for member in (None, "t.txt"):
        with pytest.raises(SourceError, match=r"several members|has 2 members"):
            embstore.build(path, tmp_path / "s", member=member)


def test_arrays_in_tars(file, tmp_path):
    np.save(tmp_path / "t.npy", ROWS)
    data = (tmp_path / "t.npy").read_bytes()
    for pack in PACK.values():
        assert_same(read(file(pack(tar_of({"x/t.npy": data}))))[1], ROWS)


def changed(data: bytes, at: int, to: bytes) -> bytes:
    return data[:at] + to + data[at + len(to) :]


LONG = b"".join(b"w%d 1 2\n" % i for i in range(3000))
TAR = tar_of({"t.txt": LONG}, tarfile.USTAR_FORMAT)
TWO = tar_of({"t.txt": LONG, "u.txt": TEXT}, tarfile.USTAR_FORMAT)
SECOND = TWO.index(b"u.txt")


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (TAR[: len(LONG)], "ends too early"),
        (TAR[:600], "ends too early"),
        (changed(TWO, SECOND + 1, b"?"), "a header is damaged"),
        (changed(TWO, SECOND, b"<html>" * 90), "a header is damaged"),
        (TWO[: SECOND + 200], "a header is damaged"),
        (TAR + TAR, "other bytes follow its end"),
        (TAR + b"<html>", "other bytes follow its end"),
    ],
)
def test_damaged_tars(file, tmp_path, pack, data, says):
    path = file(PACK[pack](data))
    with pytest.raises(SourceError, match=says):
        embstore.build(path, tmp_path / "s")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("pack", ["tar.gz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("at", [-1, -3, -6])
def test_checksums_behind_the_last_member_are_checked(file, tmp_path, pack, at):
    data = bytearray(PACK[pack](TAR))
    data[at] ^= 0xFF
    for member in (None, "t.txt"):
        with pytest.raises(SourceError, match="cannot be read as"):
            embstore.build(file(bytes(data)), tmp_path / "s", member=member)
    cut = PACK[pack](TAR)[:at]
    with pytest.raises(SourceError, match="cannot be read as"):
        embstore.build(file(cut), tmp_path / "s")


@pytest.mark.parametrize("make", ["sparse", "no files", "links"])
def test_tars_without_a_file_to_read(file, make):
    info = tarfile.TarInfo("t.txt")
    says = "without members"
    if make == "sparse":
        info.type, says = tarfile.GNUTYPE_SPARSE, "is a sparse file"
    elif make == "links":
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    else:
        info.type = tarfile.DIRTYPE
    with pytest.raises(SourceError, match=says):
        read(file(info.tobuf() + bytes(1024)))


@pytest.mark.parametrize(
    "record", [b"99999999999 path=x\n", b"path=x\n", b"5 x\n", b"18 size=-12345678\n"]
)
def test_extended_headers_that_lie(file, record):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    data = info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0")
    with pytest.raises(SourceError, match="cannot be read as tar"):
        read(file(data + tar_of({"t.txt": TEXT}, tarfile.USTAR_FORMAT)))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_of_zip(file, method):
    assert read(file(zip_of({"t.txt": TEXT}, method)))[0] == ["the", "like"]


class OneWay(io.BytesIO):
    """A file that cannot seek, so that sizes come behind the data."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise OSError("not seekable")


@pytest.mark.parametrize("zip64", [False, True])
def test_zips_written_as_streams(file, zip64):
    out = OneWay()
    archive = zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("t.txt", "w", force_zip64=zip64) as member:
        member.write(TEXT)
    assert read(file(out.getvalue()))[0] == ["the", "like"]


@pytest.mark.parametrize(
    ("at", "to", "says"),
    [
        (8, b"\x63\0", "compression method"),
        (6, b"\1\0", "encrypted"),
        (14, b"\0\0\0\0", "Bad CRC-32"),
    ],
    ids=["method", "encrypted", "checksum"],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips_that_cannot_be_read(file, tmp_path, method, at, to, says):
    data = zip_of({"t.txt": LONG}, method)
    data = changed(data, at, to)
    path = file(changed(data, data.index(b"PK\1\2") + at + 2, to))
    with pytest.raises(SourceError, match=says):
        embstore.build(path, tmp_path / "s")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("save", "order"), [(np.savez, "C"), (np.savez, "F"), (np.savez_compressed, "C")]
)
def test_npz_checksums_are_checked(tmp_path, save, order):
    array = np.asarray(np.random.default_rng(0).random((500, 20)), order=order)
    save(tmp_path / "t.npz", array)
    data = bytearray((tmp_path / "t.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "t.npz").write_bytes(data)
    with pytest.raises(SourceError, match=r"t\.npz"):
        embstore.build(tmp_path / "t.npz", tmp_path / "s")
    assert not (tmp_path / "s").exists()
