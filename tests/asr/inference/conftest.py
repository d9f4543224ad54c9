from __future__ import annotations

import pytest

from asr.inference.engine import Engine, load_engine


@pytest.fixture(scope="module")
def engine(tiny_en_name: str) -> Engine:
    """A real checkpoint in this process."""
    return load_engine(tiny_en_name, "tiny", threads=1)
