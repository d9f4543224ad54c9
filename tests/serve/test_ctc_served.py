"""CTC models in the endpoint: what is asked of them and answered, and their windows beside those of a Whisper."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from transformers import GenerationConfig

from asr.audio.decode import SAMPLE_RATE
from asr.inference.engine import Engine, decode_together
from asr.inference.pipeline import DecodingOptions
from asr.inference.transcribe import transcribe_recording
from asr.models.family import CTC, WHISPER
from asr.transcript import DecodingRequest, Transcript
from serve.config import ServeConfig
from serve.models.version import Version
from serve.replica import transcriber
from serve.replica.engine_loader import load_engine
from serve.replica.transcriber import Transcriber
from tests.asr.models.ctc import tiny
from tests.serve.fakes import voice
from tests.speed import WAIT_S


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny CTC checkpoint: it hears letters in everything."""
    return str(tiny.write(tmp_path_factory.mktemp("ctc") / "letters", "wav2vec2-large-lv60"))


@pytest.fixture
def whisper(tmp_path: Path, random_checkpoint: Path) -> str:
    """A Whisper of random weights that stops after some tokens."""
    folder = Path(shutil.copytree(random_checkpoint, tmp_path / "whisper"))
    GenerationConfig.from_pretrained(folder, max_length=10).save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_windows_of_both_families_wait_in_one_line_and_never_share_a_batch(
    letters: str, whisper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[list[str]] = []

    def watched(engines: Sequence[Engine], clips: Sequence[DecodingRequest]) -> list[Transcript]:
        batches.append([engine.info.family for engine in engines])
        return decode_together(engines, clips)

    monkeypatch.setattr(transcriber, "decode_together", watched)
    config = ServeConfig(model=letters, engine="torch", cpus_each=1, max_batch_audio_s=30.0)
    replica = Transcriber(config)
    second = np.random.default_rng(0).normal(0.0, 0.1, SAMPLE_RATE).astype(np.float32)

    async def ask() -> list[str]:
        versions = [(await replica.load(Version(name))).version for name in (letters, whisper)]
        infos = [(await replica.describe(version)).info for version in versions]
        clips = [DecodingRequest(info.features(second), "en") for info in infos]
        batches.clear()
        film = [replica.transcribe(clips[0], "film", number, None, versions[0]) for number in range(90)]
        brief = [replica.transcribe(clips[1], f"brief {n}", 0, None, versions[1]) for n in range(2)]
        return [heard.transcript.text for heard in await asyncio.gather(*film, *brief)]

    texts = asyncio.run(ask())
    assert len(set(texts[:90])) == 1 and texts[0]
    assert all(len(set(batch)) == 1 for batch in batches)
    served = [batch[0] for batch in batches]
    assert served.count(WHISPER) == 2 and served.count(CTC) == 3
    assert served.index(WHISPER) <= 1, "who came later with less waits for one batch of the film at most"


@pytest.mark.slow
def test_a_ctc_model_answers_in_every_form_and_says_what_it_cannot_do(
    endpoint: str, client: openai.OpenAI, letters: str
) -> None:
    loaded = httpx.post(f"{endpoint}/admin/models/load/letters", json={"artifact": letters}, timeout=WAIT_S)
    assert "error" not in json.loads(loaded.text.splitlines()[-1])
    create = client.audio.transcriptions.create
    audio = ("speech.flac", voice(40.0))
    expected = transcribe_recording(
        load_engine(ServeConfig(model=letters, cpus_each=1)), audio[1], DecodingOptions(timestamps=True, words=True)
    )
    try:
        whole = create(
            model="letters",
            file=audio,
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
            extra_body={"keywords": ["abc"]},
        )
        assert [one.word for one in whole.words or []]
        plain = create(model="letters", file=audio)
        assert plain.text == expected.text
        assert "-->" in create(model="letters", file=audio, response_format="srt")
        assert create(model="letters", file=audio, response_format="vtt").startswith("WEBVTT")
        assert create(model="letters", file=audio, response_format="text") == f"{plain.text}\n"
        events = list(create(model="letters", file=audio, stream=True))
        assert "".join(event.delta for event in events[:-1]) == events[-1].text == plain.text  # type: ignore[union-attr]
        for wrong in ({"prompt": "Digium"}, {"temperature": 0.5}, {"language": "auto"}):
            with pytest.raises(openai.BadRequestError, match="'letters' is a CTC model"):
                create(model="letters", file=audio, **wrong)  # type: ignore[call-overload]
        with pytest.raises(openai.BadRequestError, match="cannot translate"):
            client.audio.translations.create(model="letters", file=audio)
        with pytest.raises(openai.BadRequestError, match="'tiny' is a Whisper model and takes no keywords"):
            create(model="tiny", file=audio, keywords=["Digium"])
    finally:
        httpx.post(f"{endpoint}/admin/models/unload/letters", json={}, timeout=WAIT_S)
