from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

from asr.audio.decode import decode as decode_audio
from asr.audio.features import MARGIN_FRAMES, WINDOW_FRAMES, Context, context_frames, pad
from asr.errors import DataError, UserError
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.family import SpeechModel
from asr.models.whisper.fallback import TEMPERATURES
from asr.models.whisper.generation import generate
from asr.models.whisper.network import AnyContextWhisper
from asr.models.whisper.processor import WhisperProcessor
from asr.models.whisper.torch_backend import decode
from asr.scoring.evaluation import Evaluation, UtteranceResult
from asr.transcript import DecodingRequest, Transcript
from asr.utterance import Utterance
from tests.asr.speech import base, italian
from tests.asr.tiny_whisper import MULTILINGUAL, random_whisper


@pytest.fixture(scope="module")
def clips(tiny_en: SpeechModel, english_clips: list[Utterance]) -> list[DecodingRequest]:
    """Real speech, the longest first: results that come back sorted by length would show."""
    chosen = sorted(english_clips[:3], key=lambda clip: -(clip.duration_s or 0.0))
    return [DecodingRequest(tiny_en.features(decode_audio(Path(str(clip.audio))))) for clip in chosen]


@pytest.fixture(scope="module")
def found(tiny_en: SpeechModel, clips: list[DecodingRequest]) -> list[Transcript]:
    """What is heard of it."""
    return decode(tiny_en, clips, "full")


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
    network.generation_config = GenerationConfig.from_pretrained(
        base_checkpoint.folder, max_length=12, alignment_heads=None
    )
    tokenizer = WhisperTokenizer.from_pretrained(base_checkpoint.folder)
    return SpeechModel(
        "random", "sha256:0", network, WhisperProcessor(tokenizer, WhisperFeatureExtractor(), base_checkpoint.folder)
    )


def random_clips(*frames: int, language: str | None = None) -> list[DecodingRequest]:
    generator = np.random.default_rng(1)
    return [DecodingRequest(generator.normal(size=(80, n)).astype(np.float16), language) for n in frames]


@pytest.mark.slow
def test_the_tokens_are_those_of_transformers_own_generate(
    tiny_en: SpeechModel, tiny_en_name: str, clips: list[DecodingRequest], found: list[Transcript]
) -> None:
    plain = WhisperForConditionalGeneration.from_pretrained(find_checkpoint(tiny_en_name).folder, dtype=torch.float32)
    features = torch.from_numpy(pad([clip.features for clip in clips], WINDOW_FRAMES))
    mask = torch.ones(features.shape[0], WINDOW_FRAMES, dtype=torch.long)
    expected = plain.generate(features, attention_mask=mask).tolist()
    end = tiny_en.tokenizer.eos_token_id
    for transcript, row in zip(found, expected, strict=True):
        assert list(transcript.tokens) == [i for i in row if i < end]
        assert transcript.text == tiny_en.tokenizer.decode(row, skip_special_tokens=True).strip()


def test_real_speech_is_understood(english_clips: list[Utterance], found: list[Transcript]) -> None:
    said = sorted(english_clips[:3], key=lambda clip: -(clip.duration_s or 0.0))
    results = [UtteranceResult(u.id, u.text, t.text, u.duration_s or 0.0) for u, t in zip(said, found, strict=True)]
    assert Evaluation("tiny.en", "en", "full", results, 1.0).wer.rate < 0.3, results


@pytest.mark.slow
@pytest.mark.parametrize("context", ["short", "full"])
def test_batched_or_alone_the_same_words_in_the_order_given(
    brief: SpeechModel, clips: list[DecodingRequest], context: Context
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


def test_clips_of_several_contexts_share_a_loop_and_hear_only_themselves(
    multilingual: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [replace(clip, words=True) for clip in random_clips(90, 130, 180, 250, 340, 430)]
    alone = [decode(multilingual, [clip], "short", fallback=True)[0] for clip in clips]
    listener = Listener(monkeypatch)
    together = decode(multilingual, clips, "short", fallback=True)
    assert together == alone, "languages, what was drawn again, and words too"
    assert {len(asked) for asked in listener.asked} == {len(clips)}


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
    silence = DecodingRequest(brief.features(np.zeros(16_000, dtype=np.float32)))
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


@pytest.mark.slow
@pytest.mark.weights
def test_real_wishes_of_all_kinds_share_a_batch() -> None:
    """Italian speech: other prompts, languages, tasks, times and words; each as it is alone."""
    first, second, third = italian(8)[:3]
    spelling = "Premere cancelletto. Asterisk, Whisperfleet."
    wishes = [
        DecodingRequest(first, "it", prompt=spelling * 3),
        DecodingRequest(second, timestamps=True, words=True),
        DecodingRequest(third, "it", "translate", prompt="Press pound."),
        DecodingRequest(second, "it", prompt=spelling, temperature=0.4),
    ]
    together = decode(base(), wishes, "full")
    assert together == [decode(base(), [wish], "full")[0] for wish in wishes]
    assert together[1].language == "it"
    assert [one.temperature for one in together] == [0.0, 0.0, 0.0, 0.4]
    assert [bool(one.words) for one in together] == [False, True, False, False]
    assert len({one.text for one in together}) >= 3
    for one in together:
        assert one.text
        assert -1.5 < one.avg_logprob < 0.0
        assert 0.0 <= one.no_speech_prob < 0.6
        assert 0.5 < one.compression_ratio < 2.0


@pytest.mark.slow
def test_english_with_and_without_prompt_times_and_words(tiny_en: SpeechModel, clips: list[DecodingRequest]) -> None:
    wishes = [replace(clips[0], prompt="Asterisk, voicemail."), replace(clips[1], timestamps=True), clips[2]]
    wishes += [replace(clips[2], words=True, temperature=0.6), replace(clips[0], timestamps=True, prompt="Hello.")]
    together = decode(tiny_en, wishes, "full")
    assert decode(tiny_en, wishes[::-1], "full", max_batch_clips=2) == together[::-1]
    for clip, one in zip(wishes, together, strict=True):
        length_s = (clip.features.shape[1] - 2) / 100
        assert one.segments[0].start_s >= 0.0
        assert one.segments[-1].end_s <= length_s
        assert " ".join(segment.text for segment in one.segments) == one.text
        assert sum((segment.tokens for segment in one.segments), ()) == one.tokens
        assert bool(one.words) == clip.words
        if not clip.timestamps:
            assert [(segment.start_s, segment.end_s) for segment in one.segments] == [(0.0, length_s)]


def test_a_prompt_changes_the_spelling(
    tiny_en: SpeechModel, clips: list[DecodingRequest], found: list[Transcript]
) -> None:
    """What stands before is written in capitals, and so is what follows."""
    plain = found[0]
    [loud] = decode(tiny_en, [replace(clips[0], prompt=plain.text.upper() * 2)], "full")
    assert plain.text != plain.text.upper()
    assert sum(map(str.isupper, loud.text)) > len(loud.text) / 2


def test_only_the_end_of_a_long_prompt_counts(multilingual: SpeechModel) -> None:
    [clip] = random_clips(150, language="it")
    words = [f"parola{number}" for number in range(300)]
    whole, end = decode(
        multilingual, [replace(clip, prompt=" ".join(words)), replace(clip, prompt=" ".join(words[-120:]))], "short"
    )
    assert whole == end
    assert whole != decode(multilingual, [replace(clip, prompt=" ".join(words[::-1]))], "short")[0]
    assert decode(multilingual, [replace(clip, prompt="  ")], "short") == decode(multilingual, [clip], "short")


def test_markup_in_a_prompt_is_refused(multilingual: SpeechModel) -> None:
    with pytest.raises(DataError, match="special_token"):
        decode(multilingual, [replace(random_clips(100, language="it")[0], prompt="<|endoftext|>")], "short")


class Listener:
    """Stands in for the decoding loop, and notes what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[list[float]] = []
        monkeypatch.setattr("asr.models.whisper.torch_backend.generate", self)

    def __call__(self, model: Any, encoded: torch.Tensor, starts: Any, *rest: Any) -> Any:
        assert len(encoded) == len(starts)
        self.asked.append([start.temperature for start in starts])
        return generate(model, encoded, starts, *rest)


def test_only_what_fails_is_decoded_again_from_the_same_encoder_states(
    multilingual: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random network is sure of nothing: all fail, but for the one that is given good marks, and the sampled one."""
    listener, encoded = Listener(monkeypatch), []
    handle = multilingual.network.model.encoder.register_forward_hook(lambda *_: encoded.append(1))
    passing, failing, sampled = random_clips(110, 130, 150, language="it")
    [good] = decode(multilingual, [passing], "short")
    monkeypatch.setattr("asr.models.whisper.fallback.fails", lambda transcript: transcript.text != good.text)
    listener.asked.clear(), encoded.clear()
    try:
        wishes = [passing, failing, replace(sampled, temperature=0.5)]
        heard = decode(multilingual, wishes, "short", fallback=True)
    finally:
        handle.remove()
    assert listener.asked == [[0.0, 0.0, 0.5], *([temperature] for temperature in TEMPERATURES)]
    assert len(encoded) == 1
    assert heard[0] == good
    assert heard[2].temperature == 0.5
    assert heard[1] == decode(multilingual, [failing], "short", fallback=True)[0]


def test_what_fails_at_last_is_the_likeliest_attempt(multilingual: SpeechModel) -> None:
    [clip] = random_clips(150, language="it")
    [greedy], [chosen] = decode(multilingual, [clip], "short"), decode(multilingual, [clip], "short", fallback=True)
    attempts = [decode(multilingual, [replace(clip, temperature=t)], "short")[0] for t in TEMPERATURES]
    assert greedy.avg_logprob < -1.0, "or nothing would have failed"
    assert chosen.avg_logprob == pytest.approx(max(one.avg_logprob for one in [greedy, *attempts]), abs=1e-4)


def test_without_fallback_all_stays_as_it_was_found(multilingual: SpeechModel, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(monkeypatch)
    decode(multilingual, random_clips(130, 150, language="it"), "short")
    assert listener.asked == [[0.0, 0.0]]


@pytest.mark.slow
def test_real_speech_passes_at_once(
    tiny_en: SpeechModel, clips: list[DecodingRequest], found: list[Transcript], monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener(monkeypatch)
    assert decode(tiny_en, clips, "full", fallback=True) == found
    assert listener.asked == [[0.0] * len(clips)]


def test_where_nobody_speaks_there_are_no_words(multilingual: SpeechModel, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = replace(random_clips(150, language="it")[0], timestamps=True, words=True)
    monkeypatch.setattr("asr.models.whisper.fallback.MAX_NO_SPEECH_PROB", -1.0)
    [silent] = decode(multilingual, [clip], "short", fallback=True)
    assert (silent.text, silent.tokens, silent.segments, silent.words) == ("", (), (), ())
    assert decode(multilingual, [clip], "short")[0].text, "without fallback it says what it likes"


def test_adapters_of_peft_are_heard(multilingual: SpeechModel) -> None:
    clips = random_clips(150, 90, language="it")
    before = decode(multilingual, [replace(clip, words=True) for clip in clips], "short")
    network = AnyContextWhisper(multilingual.network.config).eval()
    network.load_state_dict(multilingual.network.state_dict())
    network.generation_config = multilingual.network.generation_config
    wrapped: Any = get_peft_model(network, LoraConfig(r=2, target_modules=["q_proj", "k_proj", "fc1"]))
    model = replace(multilingual, network=wrapped.eval())
    assert decode(model, [replace(clip, words=True) for clip in clips], "short") == before, "LoRA begins at zero"
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    assert decode(model, clips, "short") != decode(multilingual, clips, "short")
