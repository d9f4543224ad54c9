from __future__ import annotations

from dataclasses import fields

from asr.models.regularisation import Regularisation


def test_by_default_nothing_is_left_out() -> None:
    assert all(getattr(Regularisation(), field.name) == 0 for field in fields(Regularisation))
