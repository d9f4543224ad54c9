from __future__ import annotations

from asr.models.family import SpeechModel
from asr.models.processor import LONGEST_LABEL, LONGEST_PROMPT, LONGEST_WINDOW_S


def test_no_familys_label_or_prompt_is_longer_than_what_a_batch_is_promised_room_for(tiny_en: SpeechModel) -> None:
    assert tiny_en.processor.max_label_tokens <= LONGEST_LABEL
    assert tiny_en.processor.window_s <= LONGEST_WINDOW_S
    assert tiny_en.processor.max_previous_tokens <= LONGEST_PROMPT < LONGEST_LABEL
