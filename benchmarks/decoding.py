"""Decoding of records in RAM: embstore's encodings against torch, ml_dtypes and gguf-py.

All decode the same records in turns, each on one thread, and every row is compared outside of the
timing.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from benchmarks.model_tables import KINDS, ONE_SCALE, SCALE_DTYPES, Kind
from benchmarks.peers.models import TORCH_SCALES
from benchmarks.times import Times, at_least, median_of, timed
from embstore.bench.timing import check_rows
from embstore.encodings.scaled import Groups, Scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Decode = Callable[[], Any]

WORK = "decode"
DTYPES = ("float32", "bfloat16")
OWN, TORCH, ML_DTYPES, GGUF = "embstore", "torch", "ml_dtypes", "gguf-py"
# embstore's names of the dtypes of scales.
NAMES = {"BF16": "bfloat16", "F32": "float32", "F8_E8M0": "float8_e8m0fnu"}
LEAST = 5.0
# A scale a row, and GGUF's blocks, have goals.
WITH_GOALS = ("162", "164", "144")


def encoding_of(kind: Kind) -> Any:
    """Return embstore's encoding of a kind of table."""
    if kind.scale is None:
        from embstore.encodings.gguf_blocks import GgufBlocks  # noqa: PLC0415

        return GgufBlocks("Q4_K", (kind.values,))
    if not kind.scales:
        return Scaled("float8_e4m3fn", (kind.values,), factor=ONE_SCALE)
    scales = Groups(NAMES[kind.scale], kind.scales, kind.values // kind.scales)
    return Scaled("float8_e4m3fn", (kind.values,), scales=scales)


def ways(kind: Kind, records: NDArray[np.uint8], dtype: str) -> dict[str, Decode]:
    """Return the functions that decode records into a dtype, by the name of who does it."""
    out = np.empty((len(records), kind.values), dtype)
    stop = kind.code_bytes
    columns = [np.ascontiguousarray(records[:, :stop])]
    if kind.scale_bytes:
        columns.append(np.ascontiguousarray(records[:, stop:]))
    encoding = encoding_of(kind)

    def own() -> NDArray[Any]:
        encoding.decode(tuple(columns), out)
        return out

    if kind.scale is None:
        return {OWN: own, GGUF: partial(_by_gguf, columns[0], dtype)}
    return {
        OWN: own,
        TORCH: partial(_by_torch, kind, columns, dtype),
        ML_DTYPES: partial(_by_ml_dtypes, kind, columns, dtype),
    }


def time_decodes(
    kinds: Sequence[Kind], batches: Sequence[int], rounds: int, progress: Callable[[str], None]
) -> Times:
    """Return the seconds of every decode, by ``KIND, DTYPE, BATCH rows: name``."""
    random = np.random.default_rng(7)
    found: Times = {}
    for kind, dtype, batch in product(kinds, DTYPES, batches):
        case = case_of(kind, dtype, batch)
        progress(case)
        ids = random.integers(0, 1 << 30, batch)
        records = kind.records(ids)
        expected = kind.decode(records, dtype)
        for name, decode in ways(kind, records, dtype).items():
            check_rows(name, ids, decode(), expected)  # It also warms up.
        for _ in range(rounds):
            for name, decode in ways(kind, records, dtype).items():
                decode()
                rows, seconds = timed(decode)
                found.setdefault(f"{case}: {name}", []).append(seconds)
                check_rows(name, ids, rows, expected)
    return found


def case_of(kind: Kind, dtype: str, batch: int) -> str:
    """Return the name of what is decoded."""
    return f"{WORK} {kind.name} to {dtype}, {batch:,} rows"


def goals(found: Times, batches: Sequence[int]) -> list[str]:
    """Return a line for each goal that was measured; embstore's ratio to the fastest other."""
    lines = []
    for name, dtype, batch in product(WITH_GOALS, DTYPES, batches):
        case = case_of(KINDS[name], dtype, batch)
        own = median_of(found, f"{case}: {OWN}")
        others = [median_of(found, f"{case}: {other}") for other in (TORCH, ML_DTYPES, GGUF)]
        fastest = min((each for each in others if each is not None), default=None)
        if own is not None and fastest is not None:
            lines.append(at_least(f"{case}, times the fastest other", fastest / own, LEAST))
    return lines


def _by_torch(kind: Kind, columns: list[NDArray[np.uint8]], dtype: str) -> NDArray[Any]:
    import torch  # noqa: PLC0415

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = torch.from_numpy(columns[0]).view(torch.float8_e4m3fn).to(torch.float32)
    if len(columns) == 1:
        rows *= ONE_SCALE
    else:
        scales = torch.from_numpy(columns[1]).view(getattr(torch, TORCH_SCALES[str(kind.scale)]))
        groups = rows.view(len(rows), kind.scales, -1)
        groups *= scales.to(torch.float32)[:, :, None]
    if dtype != "float32":
        rows = rows.to(torch.bfloat16).view(torch.int16)
    torch.set_num_threads(threads)
    return np.asarray(rows.numpy()).view(dtype)


def _by_ml_dtypes(kind: Kind, columns: list[NDArray[np.uint8]], dtype: str) -> NDArray[Any]:
    rows = columns[0].view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    if len(columns) == 1:
        rows *= np.float32(ONE_SCALE)
    else:
        scales = columns[1].view(SCALE_DTYPES[str(kind.scale)]).astype(np.float32)
        groups = rows.reshape(len(rows), kind.scales, -1)
        groups *= scales[:, :, np.newaxis]
    return np.asarray(rows, dtype)


def _by_gguf(records: NDArray[np.uint8], dtype: str) -> NDArray[Any]:
    import gguf  # noqa: PLC0415

    return np.asarray(gguf.dequantize(records, gguf.GGMLQuantizationType.Q4_K), dtype)
