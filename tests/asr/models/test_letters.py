from __future__ import annotations

import pytest

from asr.errors import UserError
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.family import load_processor
from asr.models.letters import require_letters
from asr.models.processor import Processor
from asr.utterance import Utterance
from tests.asr.models.ctc import tiny


def rows(*texts: str) -> list[Utterance]:
    return [Utterance(str(number), "clip.wav", text) for number, text in enumerate(texts)]


@pytest.fixture(scope="module")
def latin(tmp_path_factory: pytest.TempPathFactory) -> Processor:
    folder = tiny.write(tmp_path_factory.mktemp("latin"), "wav2vec2-base-960h")
    return load_processor(Checkpoint("tiny", folder, "sha256:1"))


def test_a_test_set_in_letters_that_the_vocabulary_lacks_is_refused_in_one_line(latin: Processor) -> None:
    with pytest.raises(UserError) as met:
        require_letters(latin, rows("one", "ކިތާބު", "…", "ދިވެހި"), "data.validation")
    told = str(met.value)
    assert told.startswith("data.validation: 2 of 3 transcripts have letters that the vocabulary lacks, such as '1': ")
    assert "\n" not in told and met.value.hint


def test_letters_of_a_few_transcripts_are_errors_like_others(latin: Processor) -> None:
    told = require_letters(latin, rows("one", "Größe"), "m")
    assert told.startswith("m: 1 of 2 transcripts have letters that the vocabulary lacks, such as '1': ")
    assert require_letters(latin, rows("", "…"), "m") == ""
    assert require_letters(latin, [], "m") == ""


def test_a_vocabulary_of_all_bytes_lacks_no_letter() -> None:
    assert not require_letters(load_processor(find_checkpoint("builtin:tiny.en")), rows("ކިތާބު", "什么"), "m")
