"""Small models with n-gram tables, made up, in the files and under the names of two public ones.

    python -m examples.made_up_models DIRECTORY

========== =======================================================================================
shards     ``shard_0`` to ``shard_11`` of one table in files that ``model.safetensors.index.json``
           lists: float8 codes, rows of 160, and one bfloat16 scale for the whole table
engram     a table in each of two layers, each in a file of its own: float8 codes, rows of 256,
           and a tensor of e8m0 scales, one for every 32 values of a row
gguf       one table in a GGUF file, rows of 256 as Q8_0 blocks
========== =======================================================================================

Real tables have the same structure and up to 384 million rows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

SHARDS, SHARD_ROWS, SHARD_WIDTH = 12, 500, 160
SHARD_NAME = "model.layers.1.ngram_embedding.shard_{}.weight"
SHARD_SCALE = "model.layers.1.ngram_embedding.weight_scale"

ENGRAM_LAYERS, ENGRAM_ROWS, ENGRAM_WIDTH, GROUP = (1, 14), 3000, 256, 32
ENGRAM_NAME = "layers.{layer}.engram.embed.weight"
ENGRAM_SCALE = "layers.{layer}.engram.embed.scale"

GGUF_NAME, GGUF_ROWS = "per_layer_token_embd.weight", 1000


def make_shards(directory: Path) -> None:
    """Write a table of twelve shards, two in a file, and its scale."""
    random = torch.Generator().manual_seed(1)
    directory.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    for first in range(0, SHARDS, 2):
        file = f"model-{first // 2 + 1:05d}-of-{SHARDS // 2:05d}.safetensors"
        tensors = {}
        for number in (first, first + 1):
            rows = torch.randn(SHARD_ROWS, SHARD_WIDTH, generator=random)
            tensors[SHARD_NAME.format(number)] = rows.to(torch.float8_e4m3fn)
        if first == 0:
            tensors[SHARD_SCALE] = torch.tensor([0.0625], dtype=torch.bfloat16)
            tensors["model.norm.weight"] = torch.ones(SHARD_WIDTH)
        save_file(tensors, str(directory / file))
        weight_map |= dict.fromkeys(tensors, file)
    write_index(directory, weight_map)


def make_engram(directory: Path) -> None:
    """Write a table of codes and scales for each of two layers, each in a file of its own."""
    random = torch.Generator().manual_seed(2)
    directory.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    for layer in ENGRAM_LAYERS:
        file = f"engram-layer-{layer}.safetensors"
        shape = ENGRAM_ROWS, ENGRAM_WIDTH // GROUP
        rows = torch.randn(ENGRAM_ROWS, ENGRAM_WIDTH, generator=random)
        # The code of an e8m0 scale is its exponent and 127.
        exponents = torch.randint(120, 128, shape, generator=random, dtype=torch.uint8)
        tensors = {
            ENGRAM_NAME.format(layer=layer): rows.to(torch.float8_e4m3fn),
            ENGRAM_SCALE.format(layer=layer): exponents.view(torch.float8_e8m0fnu),
        }
        save_file(tensors, str(directory / file))
        weight_map |= dict.fromkeys(tensors, file)
    write_index(directory, weight_map)


def make_gguf(file: Path) -> None:
    """Write a GGUF file of one table."""
    import gguf  # noqa: PLC0415  # Only this table needs it.

    rows = np.random.default_rng(3).standard_normal((GGUF_ROWS, ENGRAM_WIDTH), np.float32)
    q8_0 = gguf.GGMLQuantizationType.Q8_0
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(file, "made-up")
    writer.add_tensor(GGUF_NAME, gguf.quantize(rows, q8_0), raw_dtype=q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_index(directory: Path, weight_map: dict[str, str]) -> None:
    """Write the index of a model in several files."""
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def main(directory: Path) -> None:
    """Make all three."""
    make_shards(directory / "shards")
    make_engram(directory / "engram")
    make_gguf(directory / "model.gguf")
    print(f"made {directory}/shards, {directory}/engram and {directory}/model.gguf")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
