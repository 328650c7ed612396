"""Tensors of ``.safetensors`` files, read in place."""
