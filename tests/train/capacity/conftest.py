"""The fixture that makes setups."""

from __future__ import annotations

import pytest

from asr.models.whisper.family import WhisperFamily
from tests.train.capacity.networks import MakeSetup, small_setup


@pytest.fixture
def make_setup() -> MakeSetup:
    """Make a setup, small unless said otherwise."""
    return small_setup


@pytest.fixture
def no_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take Whisper for a family that has none."""
    monkeypatch.setattr(WhisperFamily, "published", {})
    monkeypatch.setattr(WhisperFamily, "size", lambda self, folder: None)
