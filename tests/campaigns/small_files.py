"""Small right GGUF and safetensors files, to be changed."""

from __future__ import annotations

import numpy as np

from tests.helpers.gguf_files import (
    ARRAY,
    TEXT,
    Entry,
    GgufFile,
    Key,
    array,
    tensor_bytes,
    text,
    texts,
)
from tests.helpers.safetensors_files import safetensors_file


def some_gguf() -> list[GgufFile]:
    """Return small right GGUF files."""

    def entry(name: str, kind: str, shape: tuple[int, ...], seed: int) -> Entry:
        data = np.random.default_rng(seed).bytes(tensor_bytes(kind, shape))
        return Entry(name, kind, shape, data)

    keys = [
        Key("general.architecture", TEXT, text("llama")),
        Key("tokenizer.ggml.tokens", ARRAY, texts("<s>", "a", "", "käse", "b" * 300)),
        Key("tokenizer.ggml.scores", ARRAY, array(6, 5, bytes(20))),
        Key("nested", ARRAY, array(ARRAY, 2, texts("x") + array(4, 1, bytes(4)))),
        Key("flag", 7, b"\1"),
        Key("number", 12, bytes(8)),
    ]
    return [
        GgufFile([entry("a", "F32", (4, 3), 1)]),
        GgufFile([entry("norm", "F32", (5,), 2), entry("a", "Q8_0", (6, 64), 3)], keys, 2),
        GgufFile([entry("a", "Q4_K", (3, 256), 4), entry("b", "BF16", (7, 5), 5)], keys[:2], 3, 64),
        GgufFile([entry("a", "I8", (5, 2, 3), 6), entry("b", "IQ2_XS", (2, 256), 7)], [], 3, 8),
    ]


def some_safetensors() -> list[bytes]:
    """Return small right safetensors files."""
    numbers = np.random.default_rng(0)
    table = numbers.standard_normal((5, 4)).astype(np.float32)
    codes = numbers.integers(0, 256, (6, 32), np.uint8)
    return [
        safetensors_file({"a": ("F32", table)}),
        safetensors_file({"norm": ("F16", table[0].astype(np.float16)), "a": ("F32", table)}, 3),
        safetensors_file(
            {"a": ("F8_E4M3", codes), "a_scale": ("F32", table[:, 0]), "b": ("I8", codes)}, 8
        ),
        safetensors_file({"a": ("BF16", codes.view(np.uint16)), "b": ("U8", codes[:, :3])}),
    ]
