"""A plug-in that makes an engine read its n-gram tables from disk; a sketch, see README.md."""

from __future__ import annotations

from .layer import TableOnDisk

__all__ = ["TableOnDisk", "register"]

# The name of the engine's layer that `TableOnDisk` replaces.
LAYER = "NgramEmbedding"


def register() -> None:
    """Register the layer with the engine; each process of the engine calls it once."""
    # The engine is imported here, because it may import its plug-ins before it is ready.
    from vllm.model_executor.custom_op import CustomOp  # noqa: PLC0415

    CustomOp.register_oot(_decorated_op_cls=TableOnDisk, name=LAYER)
