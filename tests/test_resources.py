"""What embstore takes of the system it gives back, and what it cannot get it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import embstore
from embstore.errors import StoreMappingError
from embstore.reading.files import StoreFiles
from embstore.reading.mapping import AddressSpace
from tools.campaigns import resources


@pytest.mark.skipif(sys.platform != "linux", reason="counts what Linux shows under /proc")
def test_the_campaign_at_a_small_size(tmp_path):
    done = resources.run(tmp_path, 0, resources.SMALL)
    assert "200 cycles without a leak" in done
    assert "a clear error" in done or "no end of mappings" in done


@pytest.mark.parametrize("size_bytes", [1 << 60, 1 << 70])
def test_more_addresses_than_there_are(size_bytes):
    with pytest.raises(StoreMappingError, match=r'bytes of addresses.*reader="chunked"') as found:
        AddressSpace(size_bytes, [], StoreFiles(Path()))
    assert isinstance(found.value, OSError)
    assert isinstance(found.value, embstore.StoreError)
