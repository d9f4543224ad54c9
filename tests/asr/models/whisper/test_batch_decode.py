"""The steps around a network, with one that says what it is told to and checks what it is asked."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import WhisperTokenizer

import asr.models.whisper.batch_decode
from asr.audio.features import MARGIN_FRAMES, WINDOW_FRAMES, context_frames
from asr.errors import UserError
from asr.models.checkpoint import Checkpoint
from asr.models.whisper import fallback
from asr.models.whisper.alignment import AlignmentTarget
from asr.models.whisper.batch_decode import (
    LEAST_LOGPROB,
    MAX_PADDED,
    duration_s,
    start_of,
    transcribe_batch,
)
from asr.models.whisper.generation import DecoderPrompt, Hypothesis, Vocabulary
from asr.models.whisper.tokens import text_ids
from asr.transcript import DecodingRequest, Transcript, Word

SURE, UNSURE = -0.2, -3.0


@dataclass
class Told:
    """Row i of what is encoded is the loudness of its first frame: the name by which the script knows the clip."""

    tokenizer: WhisperTokenizer
    said: dict[tuple[int, float], tuple[str, float]] = field(default_factory=dict)
    no_speech_prob: float = 0.0
    language: str = "it"
    device_type: str = "cpu"
    joins_contexts: bool = False
    encoded: list[int] = field(default_factory=list)
    asked: list[list[tuple[int, float]]] = field(default_factory=list)
    detected: list[int] = field(default_factory=list)
    aligned: list[int] = field(default_factory=list)

    def encode(self, features: Sequence[np.ndarray], clips: Sequence[int]) -> Any:
        assert all(features_BMT.dtype == np.float32 for features_BMT in features)
        assert self.joins_contexts or len(features) == 1
        self.encoded += [features_BMT.shape[2] for features_BMT in features]
        return [round(float(loudness)) for features_BMT in features for loudness in features_BMT[:, 0, 0]]

    def languages(self, encoded: Any, rows: Sequence[int]) -> list[str]:
        self.detected += [encoded[row] for row in rows]
        return [self.language for _ in rows]

    def generate(self, encoded: Any, rows: Sequence[int], starts: Sequence[DecoderPrompt]) -> list[Hypothesis]:
        asked = [(encoded[row], start.temperature) for row, start in zip(rows, starts, strict=True)]
        self.asked.append(asked)
        found = []
        for name, temperature in asked:
            text, logprob = self.said.get((name, temperature), (f"clip {name}", SURE))
            found.append(Hypothesis(tuple(text_ids(self.tokenizer, text)), logprob, self.no_speech_prob))
        return found

    def align(self, encoded: Any, rows: Sequence[int], lines: Sequence[AlignmentTarget]) -> list[tuple[Word, ...]]:
        self.aligned += [encoded[row] for row in rows]
        return [
            (Word(0.0, line.duration_s, f" word of {encoded[row]}", 1.0),)
            for row, line in zip(rows, lines, strict=True)
        ]


@pytest.fixture(scope="module")
def tokenizer(base_checkpoint: Checkpoint) -> WhisperTokenizer:
    return WhisperTokenizer.from_pretrained(base_checkpoint.folder)


def clip(name: int, frames: int = 200, **asked: Any) -> DecodingRequest:
    features = np.full((80, frames), name, dtype=np.float16)
    return DecodingRequest(features, **({"language": "it"} | asked))


def texts(transcripts: Sequence[Transcript]) -> list[str]:
    return [transcript.text for transcript in transcripts]


@given(frames=st.lists(st.integers(1, 3000), max_size=12), size=st.integers(1, 5), joins=st.booleans())
def test_the_order_is_that_of_the_clips_whatever_their_lengths(
    tokenizer: WhisperTokenizer, frames: list[int], size: int, joins: bool
) -> None:
    network = Told(tokenizer, joins_contexts=joins)
    clips = [clip(name, length) for name, length in enumerate(frames)]
    assert texts(transcribe_batch(network, clips, "short", size)) == [f"clip {name}" for name in range(len(frames))]
    assert all(len(batch) <= size for batch in network.asked)
    assert set(network.encoded) == {context_frames(length, "short") for length in frames}


@given(frames=st.lists(st.integers(1, 3000), max_size=40))
def test_clips_of_several_contexts_are_decoded_together_but_hardly_padded(
    tokenizer: WhisperTokenizer, frames: list[int]
) -> None:
    network = Told(tokenizer, joins_contexts=True)
    transcribe_batch(network, [clip(name, length) for name, length in enumerate(frames)], "short")
    for asked in network.asked:
        contexts = [context_frames(frames[name], "short") for name, _ in asked]
        assert max(contexts) * len(contexts) <= MAX_PADDED * sum(contexts)
    apart = Told(tokenizer)
    transcribe_batch(apart, [clip(name, length) for name, length in enumerate(frames)], "short")
    assert len(network.asked) <= len(apart.asked)


def test_a_few_contexts_take_one_loop_where_they_can_share_it(tokenizer: WhisperTokenizer) -> None:
    clips = [clip(name, frames) for name, frames in enumerate([90, 2990, 130, 240, 280, 330, 410])]
    together, apart = Told(tokenizer, joins_contexts=True), Told(tokenizer)
    transcribe_batch(together, clips, "short")
    transcribe_batch(apart, clips, "short")
    assert [[name for name, _ in asked] for asked in together.asked] == [[0, 2, 3, 4, 5, 6], [1]]
    assert len(apart.asked) == 5


def test_only_what_is_unknown_is_detected(tokenizer: WhisperTokenizer) -> None:
    network = Told(tokenizer, language="de")
    found = transcribe_batch(network, [clip(1), clip(2, language=None), clip(3, language="en")], "short")
    assert [each.language for each in found] == ["it", "de", "en"]
    assert network.detected == [2]


def test_only_what_fails_is_decoded_again_from_what_was_encoded_once(tokenizer: WhisperTokenizer) -> None:
    said = {(2, 0.0): ("no no no", UNSURE), (2, 0.2): ("maybe", UNSURE), (2, 0.4): ("yes", SURE)}
    said |= {(3, 0.0): ("la " * 60, SURE), (3, 0.2): ("song", SURE)}
    network = Told(tokenizer, said)
    found = transcribe_batch(network, [clip(1), clip(2), clip(3)], "short", fallback=True)
    assert texts(found) == ["clip 1", "yes", "song"]
    assert [each.temperature for each in found] == [0.0, 0.4, 0.2]
    assert network.asked == [[(1, 0.0), (2, 0.0), (3, 0.0)], [(2, 0.2), (3, 0.2)], [(2, 0.4)]]
    assert len(network.encoded) == 1


@pytest.mark.parametrize(("prompt", "rounds"), [("p" * 10_000, 2), ("Ada Lovelace, Cambridge, 1843", 6)])
def test_a_prompt_that_repeats_itself_makes_no_attempt_but_the_first_a_loop(
    tokenizer: WhisperTokenizer, prompt: str, rounds: int
) -> None:
    class Looping(Told):
        def generate(self, encoded: Any, rows: Sequence[int], starts: Sequence[DecoderPrompt]) -> list[Hypothesis]:
            self.asked.append([])
            said = "p " * 200 if starts[0].previous else "the words"
            return [Hypothesis(tuple(text_ids(self.tokenizer, said)), SURE, 0.0)]

    network = Looping(tokenizer)
    [found] = transcribe_batch(network, [clip(1, prompt=prompt)], "short", fallback=True)
    assert len(network.asked) == rounds
    assert (found.text == "the words") == (rounds == 2)


def test_where_nothing_passes_the_likeliest_stands(tokenizer: WhisperTokenizer) -> None:
    said = {(1, heat): (f"try {heat}", UNSURE - abs(heat - 0.6)) for heat in (0.0, *fallback.TEMPERATURES)}
    network = Told(tokenizer, said)
    assert texts(transcribe_batch(network, [clip(1)], "short", fallback=True)) == ["try 0.6"]
    assert len(network.asked) == 1 + len(fallback.TEMPERATURES)


def test_without_the_fallback_everything_stands_as_it_was_first(tokenizer: WhisperTokenizer) -> None:
    network = Told(tokenizer, {(1, 0.0): ("no no", UNSURE)}, no_speech_prob=0.99)
    assert texts(transcribe_batch(network, [clip(1)], "short")) == ["no no"]


def test_an_asked_temperature_is_decoded_at_once_and_only_once(tokenizer: WhisperTokenizer) -> None:
    network = Told(tokenizer, {(1, 0.7): ("well", UNSURE)})
    assert texts(transcribe_batch(network, [clip(1, temperature=0.7)], "short", fallback=True)) == ["well"]
    assert network.asked == [[(1, 0.7)]]


def test_no_speech_is_no_words(tokenizer: WhisperTokenizer) -> None:
    network = Told(tokenizer, {(1, 0.0): ("thanks for watching", UNSURE)}, no_speech_prob=0.9)
    [silence, speech] = transcribe_batch(network, [clip(1, words=True), clip(2, words=True)], "short", fallback=True)
    assert (silence.text, silence.tokens, silence.segments, silence.words) == ("", (), (), ())
    assert speech.text == "clip 2"
    assert network.aligned == [2], "nothing is aligned of what nobody said"


@pytest.mark.parametrize("wild", [float("nan"), float("-inf"), float("inf")])
def test_what_is_no_number_comes_out_as_one_and_is_not_believed(tokenizer: WhisperTokenizer, wild: float) -> None:
    network = Told(tokenizer, {(1, 0.0): ("no number", wild), (1, 0.2): ("a number", SURE)}, no_speech_prob=wild)
    [first] = transcribe_batch(network, [clip(1)], "short")
    assert (first.avg_logprob, first.no_speech_prob) == (LEAST_LOGPROB, 0.0)
    assert texts(transcribe_batch(network, [clip(1)], "short", fallback=True)) == ["a number"]


def test_words_are_of_their_own_clip_and_only_where_asked(tokenizer: WhisperTokenizer) -> None:
    network = Told(tokenizer)
    found = transcribe_batch(network, [clip(1), clip(2, words=True), clip(3, 90, words=True), clip(4)], "short")
    assert [[word.text for word in each.words] for each in found] == [[], [" word of 2"], [" word of 3"], []]


def test_segments_stand_between_times_and_cover_the_text(tokenizer: WhisperTokenizer) -> None:
    first = Vocabulary.of(tokenizer).first_time
    one, two = text_ids(tokenizer, "Buona sera."), text_ids(tokenizer, "Chi parla?")

    class Timed(Told):
        def generate(self, encoded: Any, rows: Sequence[int], starts: Sequence[DecoderPrompt]) -> list[Hypothesis]:
            return [Hypothesis((first, *one, first + 50, first + 60, *two), SURE, 0.0) for _ in starts]

    [heard] = transcribe_batch(Timed(tokenizer), [clip(1, 302, timestamps=True)], "short")
    assert [(each.start_s, each.end_s, each.text) for each in heard.segments] == [
        (0.0, 1.0, "Buona sera."),
        (1.2, 3.0, "Chi parla?"),
    ]
    assert heard.tokens == (*one, *two) and heard.text == "Buona sera. Chi parla?"


def test_a_prompt_markup_or_a_language_that_cannot_be_is_refused(tokenizer: WhisperTokenizer) -> None:
    with pytest.raises(UserError, match="'xx'"):
        transcribe_batch(Told(tokenizer), [clip(1, language="xx")], "short")


def test_the_seed_is_the_clip_s_own(tokenizer: WhisperTokenizer) -> None:
    seeds: list[str] = []

    class Seeded(Told):
        def generate(self, encoded: Any, rows: Sequence[int], starts: Sequence[DecoderPrompt]) -> list[Hypothesis]:
            seeds.extend(start.seed for start in starts)
            return super().generate(encoded, rows, starts)

    hot = clip(1, temperature=0.5)
    transcribe_batch(
        Seeded(tokenizer), [hot, clip(2, temperature=0.5), replace(hot, temperature=0.6), hot, clip(1)], "short"
    )
    assert seeds[0] == seeds[3]
    assert len(set(seeds[:3])) == 3 and seeds[4] == ""


@given(frames=st.integers(1, WINDOW_FRAMES))
def test_the_context_holds_the_clip_and_a_margin(frames: int) -> None:
    assert context_frames(frames, "full") == WINDOW_FRAMES
    short = context_frames(frames, "short")
    assert short % 100 == 0 and frames <= short <= WINDOW_FRAMES
    assert short == WINDOW_FRAMES or MARGIN_FRAMES <= short - frames < MARGIN_FRAMES + 100


def test_windows_that_are_nearly_whole_share_a_batch(tokenizer: WhisperTokenizer) -> None:
    network = Told(tokenizer)
    transcribe_batch(network, [clip(name, frames) for name, frames in enumerate([2351, 2500, 2780, 2999])], "short")
    assert list(network.encoded) == [WINDOW_FRAMES] and context_frames(2350, "short") == 2400


@given(frames=st.integers(1, WINDOW_FRAMES))
def test_a_clip_lasts_at_most_its_features(frames: int) -> None:
    assert 0 < duration_s(clip(1, frames)) <= frames / 100


@pytest.mark.parametrize(("device_type", "batches"), [("cpu", [16, 16, 8]), ("cuda", [40])])
def test_a_gpu_decodes_more_clips_at_once(tokenizer: WhisperTokenizer, device_type: str, batches: list[int]) -> None:
    network = Told(tokenizer, device_type=device_type)
    transcribe_batch(network, [clip(number) for number in range(40)], "short")
    assert [len(asked) for asked in network.asked] == batches


def test_a_prompt_is_tokenised_once_for_all_windows_and_attempts(
    base_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, asked = WhisperTokenizer.from_pretrained(base_checkpoint.folder), list[str]()
    previous = asr.models.whisper.batch_decode.previous_ids

    def counted(tokenizer: WhisperTokenizer, text: str) -> list[int]:
        asked.append(text)
        return previous(tokenizer, text)

    monkeypatch.setattr(asr.models.whisper.batch_decode, "previous_ids", counted)
    clips = [clip(name, prompt="Digium, Asterisk.") for name in range(1, 6)]
    starts = [start_of(tokenizer, one) for one in (*clips, clip(1, prompt="Another."), *clips)]
    assert asked == ["Digium, Asterisk.", "Another."]
    assert starts[0].prompt[: starts[0].previous] == tuple(previous(tokenizer, "Digium, Asterisk."))
    gone = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert gone() is None, "what is known of a model keeps it from being unloaded"
