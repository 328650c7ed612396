"""Source files that are cut or changed while a build reads them: an error, not a signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import embstore
from tests.helpers.programs import run_program

if TYPE_CHECKING:
    from pathlib import Path

# Some batches of 4 MiB.
SHAPE = (5000, 1000)

PROGRAM = """
import os, sys
import embstore
path, target, change = sys.argv[1:]
size = os.path.getsize(path)
done = []

def progress(_):
    if not done:
        if change == "cut":
            os.truncate(path, size // 3)
        elif change == "empty":
            os.truncate(path, 0)
        else:
            with open(path, "r+b") as file:
                file.seek(size // 2)
                file.write(bytes(100_000))
            os.utime(path, ns=(0, 0))
    done.append(1)

try:
    embstore.build(path, target, progress=progress, overwrite=True)
except embstore.EmbstoreError as error:
    print(type(error).__name__, error)
"""


def save(path: Path, kind: str) -> Path:
    table = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    if kind == "npy":
        np.save(path / "t.npy", table)
        return path / "t.npy"
    if kind == "fortran":
        np.save(path / "t.npy", np.asfortranarray(table))
        return path / "t.npy"
    if kind == "folder":
        (path / "t").mkdir()
        np.save(path / "t" / "t.npy", table)
        return path / "t" / "t.npy"
    if kind in ("npz", "npz in Fortran order"):
        np.savez(path / "t.npz", np.asarray(table, order="C" if kind == "npz" else "F"))
        return path / "t.npz"
    header = b'{"e":{"dtype":"F32","shape":[5000,1000],"data_offsets":[0,20000000]}}'
    data = len(header).to_bytes(8, "little") + header + table.tobytes()
    (path / "t.safetensors").write_bytes(data)
    return path / "t.safetensors"


@pytest.mark.parametrize(
    "kind", ["npy", "fortran", "folder", "safetensors", "npz", "npz in Fortran order"]
)
@pytest.mark.parametrize("change", ["cut", "empty", "overwritten"])
def test_files_that_change_while_they_are_read(tmp_path, kind, change):
    embstore.build({"old": [1.0, 2.0]}, tmp_path / "s").close()
    path = save(tmp_path, kind)
    said = run_program(PROGRAM, path, tmp_path / "s", change)
    assert said.startswith("SourceError")
    assert str(path) in said
    assert embstore.open(tmp_path / "s")["old"].tolist() == [1, 2]
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")) == []
