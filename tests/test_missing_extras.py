"""What an import says where an optional package is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "package", "said"),
    [
        ("torch", "torch", 'needs PyTorch: pip install "embstore[torch]"'),
        ("keras", "keras", 'pip install "embstore[keras]"'),
    ],
)
def test_missing_package_is_named(module, package, said):
    code = f"import sys; sys.modules[{package!r}] = None; import embstore.interop.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: embstore.interop.{module} ")
    assert said in last
