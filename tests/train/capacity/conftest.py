"""The fixture that makes setups."""

from __future__ import annotations

from typing import Any

import pytest

from tests.train.capacity.networks import ADAPTERS, SMALL, MakeSetup
from train.capacity.setup import BatchShape, Setup


@pytest.fixture
def make_setup() -> MakeSetup:
    """A setup on the CPU, of the small shape unless said otherwise."""

    def make(**changes: Any) -> Setup:
        given = {"shape": SMALL, "batch": BatchShape(3, 101, 17), "adapters": ADAPTERS, "gpu": False}
        return Setup(**(given | changes))

    return make
