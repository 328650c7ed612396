"""A Hugging Face model whose token embeddings stay in its file on disk.

    python examples/huggingface.py

1. The table is opened where it lies, in the model's safetensors file. Nothing is copied.
2. A module over it takes the place of the model's ``nn.Embedding``; answers are the same to the
   bit. The rest of the model is loaded without the table, which never comes into memory.
3. With the tokens of ``tokenizer.json`` as its words, the table becomes a store of its own.

The model is a small random BERT, made by the script, because an example should download nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoConfig, AutoModel, BertConfig, BertModel
from transformers.utils.logging import disable_progress_bar

import embstore
from embstore.interop.torch import swap

WORDS = ["[PAD]", "[UNK]", "the", "river", "has", "a", "bank", "and", "water"]
FILE = "model.safetensors"
MODULE = "embeddings.word_embeddings"
TENSOR = f"{MODULE}.weight"


def make_model(folder: Path) -> None:
    """Write a small random model and its tokenizer, in the files of a real one."""
    torch.manual_seed(0)
    tokens = {token: number for number, token in enumerate([*WORDS, *map(str, range(991))])}
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    BertModel(BertConfig(vocab_size=len(tokens), **sizes)).save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel(tokens, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def load_without_table(folder: Path, store: embstore.EmbeddingStore) -> torch.nn.Module:
    """Return the model with its embedding over a store; the table is not read."""
    with init_empty_weights():  # The shapes of parameters, without their memory.
        model = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    swap(model, MODULE, store)
    with safe_open(folder / FILE, "pt") as file:
        names = set(file.keys()) - {TENSOR}
        others = {name: file.get_tensor(name) for name in names}
    # Not strict: the state of the new module names the store, and the file does not.
    model.load_state_dict(others, strict=False, assign=True)
    return model.eval()


def count(model: torch.nn.Module) -> int:
    """Return the number of a model's parameters."""
    return sum(one.numel() for one in model.parameters())


def main() -> None:
    """Make a model, load it with its table on disk, and compare the answers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        disable_progress_bar()
        make_model(folder)
        text = "the river has a bank"
        ids = torch.tensor([Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids])
        with torch.inference_mode(), embstore.open(folder / FILE, tensor=TENSOR) as store:
            print(store)
            model = load_without_table(folder, store)
            answer = model(ids).last_hidden_state
            whole = AutoModel.from_pretrained(folder).eval()
            same = torch.equal(answer, whole(ids).last_hidden_state)
            print(f"answer {tuple(answer.shape)}, the same as with the table in memory: {same}")
            print(f"numbers in memory: {count(whole):,} -> {count(model):,}")
            table = whole.get_submodule(MODULE).weight
        words = folder / "tokenizer.json"
        path = folder / "tokens.embstore"
        with embstore.build(folder / FILE, path, tensor=TENSOR, words=words) as tokens:
            print(tokens)
            print("the row of river:", table[3].equal(torch.tensor(tokens["river"])))


if __name__ == "__main__":
    main()
