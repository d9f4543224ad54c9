from __future__ import annotations

import pickle

import pytest

from asr.audio import AudioLimits
from asr.errors import UserError
from serve.config import ServeConfig
from serve.engine import Engine, load_engine
from serve.request import prepare


def test_an_english_checkpoint_says_what_it_knows(engine: Engine) -> None:
    info = engine.info
    assert (info.name, info.language, info.languages, info.context) == ("tiny", "en", frozenset({"en"}), "full")


def test_what_a_request_must_know_travels_without_the_weights(engine: Engine) -> None:
    assert len(pickle.dumps(engine.info)) < 200_000


def test_it_decodes_clips_in_their_order(engine: Engine, flacs: list[bytes]) -> None:
    clips = [prepare(flac, "en", engine.info, AudioLimits()).clips[0] for flac in flacs[:2]]
    forward, backward = engine.decode(clips), engine.decode(clips[::-1])
    assert [t.text for t in forward] == [t.text for t in backward[::-1]]
    assert forward[0].text != forward[1].text


def test_a_model_that_does_not_exist_is_a_persons_mistake() -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        load_engine(ServeConfig(model="builtin:tinny.en"))
