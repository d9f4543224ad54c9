from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig, WhisperForConditionalGeneration, WhisperTokenizer

from asr import audio
from asr.checkpoint import Checkpoint, find_checkpoint
from asr.decode import MARGIN_FRAMES, Clip, Context, Transcript, context_frames, decode
from asr.errors import UserError
from asr.evaluation import Evaluation, UtteranceResult
from asr.features import WINDOW_FRAMES, LogMel, pad
from asr.model import SpeechModel
from asr.utterance import Utterance
from asr.whisper import AnyContextWhisper
from tests.asr.tiny_whisper import MULTILINGUAL, random_whisper


@pytest.fixture(scope="module")
def clips(tiny_en: SpeechModel, english_clips: list[Utterance]) -> list[Clip]:
    """Real speech, the longest first: results that come back sorted by length would show."""
    chosen = sorted(english_clips[:3], key=lambda clip: -(clip.duration_s or 0.0))
    return [Clip(tiny_en.log_mel(audio.decode(Path(str(clip.audio))))) for clip in chosen]


@pytest.fixture(scope="module")
def brief(tiny_en: SpeechModel) -> SpeechModel:
    """The same network, stopped after some tokens: without training for it, a short context ends in loops."""
    config = GenerationConfig.from_dict(tiny_en.network.generation_config.to_dict() | {"max_length": 12})
    network = AnyContextWhisper(tiny_en.network.config).eval()
    network.load_state_dict(tiny_en.network.state_dict())
    network.generation_config = config
    return replace(tiny_en, network=network)


@pytest.fixture(scope="module")
def multilingual(base_checkpoint: Checkpoint) -> SpeechModel:
    """A random network with a real vocabulary of 99 languages, made to attend to what it hears and is told."""
    original = random_whisper(MULTILINGUAL)
    network = AnyContextWhisper(original.config).eval()
    network.load_state_dict(original.state_dict())
    with torch.no_grad():
        for name, parameter in network.model.decoder.layers.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(20.0 if "proj" in name else 5.0)
    network.generation_config = GenerationConfig.from_pretrained(base_checkpoint.folder, max_length=12)
    tokenizer = WhisperTokenizer.from_pretrained(base_checkpoint.folder)
    return SpeechModel("random", "sha256:0", network, tokenizer, LogMel(None))


def random_clips(*frames: int, language: str | None = None) -> list[Clip]:
    generator = np.random.default_rng(1)
    return [Clip(generator.normal(size=(80, n)).astype(np.float16), language) for n in frames]


def test_the_tokens_are_those_of_transformers_own_generate(
    tiny_en: SpeechModel, tiny_en_name: str, clips: list[Clip]
) -> None:
    plain = WhisperForConditionalGeneration.from_pretrained(find_checkpoint(tiny_en_name).folder, dtype=torch.float32)
    features = torch.from_numpy(pad([clip.features for clip in clips], WINDOW_FRAMES))
    mask = torch.ones(features.shape[0], WINDOW_FRAMES, dtype=torch.long)
    expected = plain.generate(features, attention_mask=mask).tolist()
    end = tiny_en.tokenizer.eos_token_id
    found = decode(tiny_en, clips, "full")
    for transcript, row in zip(found, expected, strict=True):
        assert list(transcript.tokens) == [i for i in row if i < end]
        assert transcript.text == tiny_en.tokenizer.decode(row, skip_special_tokens=True).strip()


def test_real_speech_is_understood(tiny_en: SpeechModel, english_clips: list[Utterance], clips: list[Clip]) -> None:
    said = sorted(english_clips[:3], key=lambda clip: -(clip.duration_s or 0.0))
    found = decode(tiny_en, clips, "full")
    results = [UtteranceResult(u.id, u.text, t.text, u.duration_s or 0.0) for u, t in zip(said, found, strict=True)]
    assert Evaluation("tiny.en", "en", "full", results, 1.0).wer.rate < 0.3, results


@pytest.mark.parametrize("context", ["short", "full"])
def test_batched_or_alone_the_same_words_in_the_order_given(
    brief: SpeechModel, clips: list[Clip], context: Context
) -> None:
    batched = decode(brief, clips, context)
    assert [decode(brief, [clip], context)[0] for clip in clips] == batched
    assert len({transcript.text for transcript in batched}) == len(clips)


def test_many_clips_make_several_batches_and_keep_their_order(multilingual: SpeechModel) -> None:
    clips = random_clips(250, 90, 120, 251, 60, 130, 700, 101, 99, language="it")
    alone = [decode(multilingual, [clip], "short")[0] for clip in clips]
    assert len({transcript.tokens for transcript in alone}) > 6, "or the order would not show"
    for size in (1, 2, 16):
        assert decode(multilingual, clips, "short", max_batch_clips=size) == alone
    assert decode(multilingual, clips[::-1], "short") == alone[::-1]


def test_no_clips_no_transcripts(tiny_en: SpeechModel) -> None:
    assert decode(tiny_en, [], "short") == []


def test_nothing_is_logged(multilingual: SpeechModel, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)  # the library's records do not reach the root logger
    try:
        decode(multilingual, random_clips(120, 130), "short")
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.messages == []


@pytest.mark.parametrize("context", ["short", "full"])
def test_the_language_is_detected_where_it_is_not_given(multilingual: SpeechModel, context: Context) -> None:
    known = {token.strip("<|>") for token in multilingual.network.generation_config.lang_to_id}
    unknown, given_it, other = decode(
        multilingual, [*random_clips(150), *random_clips(150, language="it"), *random_clips(90)], context
    )
    assert unknown.language in known
    assert other.language in known
    assert given_it.language == "it"


def test_a_detected_language_decodes_as_if_it_were_given(multilingual: SpeechModel) -> None:
    [clip] = random_clips(150)
    [detected] = decode(multilingual, [clip], "short")
    assert decode(multilingual, [replace(clip, language=detected.language)], "short") == [detected]


def test_clips_of_one_batch_have_their_own_language_and_task(multilingual: SpeechModel) -> None:
    [clip] = random_clips(150)
    wishes = [
        replace(clip, language="it"),
        replace(clip, language="de"),
        replace(clip, language="it", task="translate"),
    ]
    together = decode(multilingual, wishes, "short")
    assert together == [decode(multilingual, [wish], "short")[0] for wish in wishes]
    assert len({transcript.tokens for transcript in together}) == 3, "the prompt must make a difference here"


def test_detection_picks_the_likeliest_language(multilingual: SpeechModel) -> None:
    [clip] = random_clips(3000)
    [heard] = decode(multilingual, [clip], "full")
    languages = multilingual.network.generation_config.lang_to_id
    with torch.no_grad():
        features = torch.from_numpy(clip.features[None].astype(np.float32))
        start = torch.tensor([[50258]])
        scores = multilingual.network(input_features=features, decoder_input_ids=start).logits[0, -1]
    assert max(languages, key=lambda token: float(scores[languages[token]])) == f"<|{heard.language}|>"


def test_an_unknown_language_is_a_users_mistake(multilingual: SpeechModel, tiny_en: SpeechModel) -> None:
    with pytest.raises(UserError, match="'xx'"):
        decode(multilingual, random_clips(100, language="xx"), "short")
    with pytest.raises(UserError, match="English only"):
        decode(tiny_en, random_clips(100, language="it"), "short")


def test_silence_and_noise_give_finite_answers(brief: SpeechModel) -> None:
    silence = Clip(brief.log_mel(np.zeros(16_000, dtype=np.float32)))
    for transcript in decode(brief, [silence, *random_clips(102)], "short"):
        assert isinstance(transcript, Transcript)
        assert len(transcript.tokens) <= 12
        assert max(transcript.tokens, default=0) < brief.tokenizer.eos_token_id, "no special tokens"


@given(frames=st.integers(1, WINDOW_FRAMES))
def test_the_context_holds_the_clip_and_a_margin(frames: int) -> None:
    assert context_frames(frames, "full") == WINDOW_FRAMES
    short = context_frames(frames, "short")
    assert short % 100 == 0
    assert frames <= short <= WINDOW_FRAMES
    assert short == WINDOW_FRAMES or MARGIN_FRAMES <= short - frames < MARGIN_FRAMES + 100
