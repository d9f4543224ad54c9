from __future__ import annotations

import pytest
from pydantic import ValidationError

from asr.models.head import HeadSettings
from train.trainer.ctc import CtcSettings


def test_the_section_holds_the_settings_of_the_head_too() -> None:
    assert set(HeadSettings.model_fields) < set(CtcSettings.model_fields)
    assert (
        CtcSettings(casing="lower").model_dump(include=set(HeadSettings.model_fields))
        == HeadSettings(casing="lower").model_dump()
    )


@pytest.mark.parametrize("settings", [{"head_learning_rate": 0}, {"layerdrop": 1.0}, {"casing": "title"}, {"beam": 3}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CtcSettings.model_validate(settings)
