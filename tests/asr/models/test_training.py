from __future__ import annotations

import inspect

import pytest

from asr.models.family import Family, families
from asr.models.training import NetworkLayers, TrainedFamily

NAMES = sorted(name for one in (Family, TrainedFamily) for name in vars(one) if not name.startswith("_"))


@pytest.mark.parametrize("name", NAMES)
def test_every_family_answers_each_question_of_the_contract(name: str) -> None:
    asked = inspect.getattr_static(Family, name)
    for family in families():
        answer = inspect.getattr_static(family, name)
        if not isinstance(asked, property):
            assert list(inspect.signature(answer).parameters) == list(inspect.signature(asked).parameters), family.name


def test_a_network_has_no_head_to_be_trained_whole_unless_it_is_named() -> None:
    assert NetworkLayers(("q_proj",)).head == ()
