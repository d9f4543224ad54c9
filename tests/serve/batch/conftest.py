from __future__ import annotations

import pytest

from serve.batch.pipeline import Workforce


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a core to the tests beside these: two threads of a decoder spin for each other where one has to wait."""
    monkeypatch.setattr(Workforce, "of_cluster", classmethod(lambda cls, shared: cls(1, 1, False, 2)))
