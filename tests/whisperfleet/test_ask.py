"""Asking without a client; asking a real endpoint is part of tests/e2e."""

from __future__ import annotations

import sys

import pytest

from asr.errors import UserError
from asr.utterance import Utterance
from whisperfleet.ask import ask


def test_a_missing_client_is_named_before_anything_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UserError, match=r"openai client is .*whisperfleet\[client\]"):
        ask("builtin:tiny.en", [Utterance("a", "a.flac")])
