from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from asr.models.ctc.features import ClipFeatures, load_features
from asr.models.ctc.network import load
from tests.asr.models.ctc import tiny


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny checkpoint, written once."""

    @cache
    def written(name: str) -> Path:
        return tiny.write(tmp_path_factory.mktemp("ctc") / name, name)

    return written


@pytest.fixture(scope="session")
def network_of(checkpoint: Callable[[str], Path]) -> Callable[[str], PreTrainedModel]:
    """A copy of a tiny checkpoint's network, which is loaded once."""
    loaded = cache(lambda name: load(checkpoint(name), checkpoint(name)))
    return lambda name: deepcopy(loaded(name))


@pytest.fixture(scope="session")
def features_of(checkpoint: Callable[[str], Path]) -> Callable[[str], ClipFeatures]:
    """The features of a tiny checkpoint, which are loaded once."""
    return cache(lambda name: load_features(checkpoint(name)))
