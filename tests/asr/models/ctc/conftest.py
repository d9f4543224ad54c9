from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.asr.models.ctc import tiny


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny checkpoint, written once."""

    @cache
    def written(name: str) -> Path:
        return tiny.write(tmp_path_factory.mktemp("ctc") / name, name)

    return written
