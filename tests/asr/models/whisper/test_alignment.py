from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperForConditionalGeneration, WhisperTokenizer

from asr.audio.decode import SAMPLE_RATE
from asr.audio.decode import decode as decode_audio
from asr.audio.features import pad
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.family import SpeechModel
from asr.models.whisper.alignment import AlignmentTarget, align, path_times, words_of
from asr.models.whisper.batch_decode import duration_s
from asr.models.whisper.tokens import prompt_ids, text_ids
from asr.models.whisper.torch_backend import decode
from asr.transcript import DecodingRequest, Transcript, Word
from asr.utterance import Utterance
from tests.asr.speech import base, italian


def slow_path_times(match: np.ndarray) -> list[float]:
    """The same by the textbook, cell by cell."""
    rows, positions = match.shape
    best = np.full((rows, positions), -np.inf)
    way: dict[tuple[int, int], tuple[int, int]] = {}
    for i in range(rows):
        for j in range(positions):
            ways = [(i, j - 1), (i - 1, j - 1), (i - 1, j)]
            known = [(best[cell], cell) for cell in ways if min(cell) >= 0]
            total, way[i, j] = max(known, key=lambda one: one[0]) if known else (0.0, (-1, -1))
            best[i, j] = match[i, j] + total
    cell = (rows - 1, positions - 1)
    begins = [0.0] * rows
    while min(cell) >= 0:
        begins[cell[0]] = cell[1] * 0.02
        cell = way[cell]
    return begins


@given(rows=st.integers(1, 12), positions=st.integers(1, 20), seed=st.integers(0, 1000))
def test_the_path_is_the_best_one(rows: int, positions: int, seed: int) -> None:
    match = np.random.default_rng(seed).normal(size=(rows, positions))
    assert path_times(match) == pytest.approx(slow_path_times(match))


def test_a_path_of_blocks_is_found() -> None:
    match = -np.ones((3, 60))
    match[0, :10] = match[1, 10:45] = match[2, 45:] = 1.0
    assert path_times(match) == pytest.approx([0.0, 0.2, 0.9])


@pytest.fixture(scope="module")
def tokenizer(base_checkpoint: Checkpoint) -> WhisperTokenizer:
    """That of 99 languages."""
    found: WhisperTokenizer = WhisperTokenizer.from_pretrained(base_checkpoint.folder)
    return found


def grouped(tokenizer: WhisperTokenizer, text: str, language: str) -> list[Word]:
    tokens = text_ids(tokenizer, text)
    times_s = [0.1 * number for number in range(len(tokens) + 1)]
    return list(words_of(tokenizer, tokens, language, times_s, [0.5] * len(tokens)))


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("Grazie, e a presto.", "it", [" Grazie,", " e", " a", " presto."]),
        ("L'e-mail è «nuova»!", "it", [" L'e-mail", " è", " «nuova»!"]),
        ("¿Qué tal? (bien)", "es", [" ¿Qué", " tal?", " (bien)"]),
        ("one - two -", "en", [" one", " - two -"]),
        ("don't stop", "en", [" don't", " stop"]),
        ("...", "en", [" ..."]),
        ("ދިވެހި ބަސް", "si", ["ދިވެހި", " ބަސް"]),
        ("今日は、雨「だ」。", "ja", ["今", "日", "は、", "雨", "「だ」。"]),
    ],
)
def test_words_are_what_stands_between_spaces(
    tokenizer: WhisperTokenizer, text: str, language: str, words: list[str]
) -> None:
    found = [word.text for word in grouped(tokenizer, text, language)]
    assert "".join(found).strip() == text
    assert [word.strip() for word in found] == [word.strip() for word in words] or language == "ja"
    if language == "ja":  # tokens of several characters stay whole
        assert len(found) >= 3
        assert all(word[0] not in "、。」" for word in found)


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1, max_size=40), language=st.sampled_from(["it", "ja"]))
def test_no_letter_is_lost_and_times_rise(tokenizer: WhisperTokenizer, text: str, language: str) -> None:
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    end = tokenizer.eos_token_id
    if not tokens or max(tokens) >= end:
        return
    found = words_of(tokenizer, tokens, language, [0.1 * n for n in range(len(tokens) + 1)], [0.5] * len(tokens))
    assert "".join(word.text for word in found) == tokenizer.decode(tokens)
    assert all(0 <= word.start_s <= word.end_s for word in found)
    assert all(a.start_s <= b.start_s for a, b in pairwise(found))


def test_a_comma_takes_no_time_of_its_word_and_a_pause_none_of_the_next_sentence(tokenizer: WhisperTokenizer) -> None:
    tokens = text_ids(tokenizer, "No. No")
    assert [tokenizer.decode([token]) for token in tokens] == [" No", ".", " No"]
    yes, no = words_of(tokenizer, tokens, "it", [1.0, 1.3, 1.8, 9.0], [1.0, 0.1, 0.5])
    assert (yes.start_s, yes.end_s, yes.probability) == (1.0, 1.3, 1.0)
    assert (no.start_s, no.end_s) == (9.0 - 2 * 0.7, 9.0)


@pytest.fixture(scope="module")
def waveforms(english_clips: list[Utterance]) -> list[np.ndarray]:
    return [decode_audio(str(clip.audio)) for clip in english_clips[:3]]


def heard(model: SpeechModel, waveforms: list[np.ndarray]) -> list[Transcript]:
    return decode(
        model, [DecodingRequest(model.features(waveform), "en", words=True) for waveform in waveforms], "full"
    )


@pytest.fixture(scope="module")
def together(tiny_en: SpeechModel, waveforms: list[np.ndarray]) -> list[Transcript]:
    """What is heard of them in one batch."""
    return heard(tiny_en, waveforms)


@pytest.mark.slow
def test_words_lie_in_the_clip_in_order(together: list[Transcript], waveforms: list[np.ndarray]) -> None:
    for transcript, waveform in zip(together, waveforms, strict=True):
        words = transcript.words
        assert len(words) >= 8
        assert all(0 <= word.start_s < word.end_s <= len(waveform) / SAMPLE_RATE + 0.01 for word in words)
        assert all(a.end_s <= b.start_s for a, b in pairwise(words))
        assert all(0 < word.probability <= 1 for word in words)


@pytest.mark.slow
def test_silence_before_moves_every_word_by_itself(
    tiny_en: SpeechModel, together: list[Transcript], waveforms: list[np.ndarray]
) -> None:
    moved = [np.concatenate([np.zeros(2 * SAMPLE_RATE, dtype=np.float32), waveform]) for waveform in waveforms]
    shifts = []
    for early, late in zip(together, heard(tiny_en, moved), strict=True):
        if [word.text.lower() for word in early.words] != [word.text.lower() for word in late.words]:
            continue  # silence may change the words, too
        shifts += [b.end_s - a.end_s for a, b in zip(early.words, late.words, strict=True)]
    assert len(shifts) > 15
    assert np.median(shifts) == pytest.approx(2.0, abs=0.03)
    assert np.mean(np.abs(np.array(shifts) - 2.0) < 0.15) > 0.9


@pytest.mark.slow
def test_times_are_those_of_transformers(
    tiny_en_name: str, tiny_en: SpeechModel, together: list[Transcript], waveforms: list[np.ndarray]
) -> None:
    """Its own reading of the same attention gives each token's end, on a path through the silence behind, too."""
    plain = WhisperForConditionalGeneration.from_pretrained(
        find_checkpoint(tiny_en_name).folder, dtype=torch.float32, attn_implementation="eager"
    )
    differences = []
    for transcript, waveform in zip(together, waveforms, strict=True):
        sound = tiny_en.features(waveform)
        features = torch.from_numpy(pad([sound], 3000))
        output: Any = plain.generate(
            features,
            attention_mask=(torch.arange(3000) < sound.shape[1]).long()[None],
            return_token_timestamps=True,
            return_dict_in_generate=True,
        )
        theirs: dict[int, float] = {}
        found, times_s = output["sequences"][0].tolist(), output["token_timestamps"][0].tolist()
        theirs |= zip(found[-len(times_s) :], times_s, strict=True)
        for word in transcript.words:
            [first, *more] = tiny_en.tokenizer(word.text, add_special_tokens=False).input_ids
            if transcript.tokens.count(first) == 1 and not more:
                differences.append(word.end_s - theirs[first])
    assert len(differences) > 8
    assert np.median(np.abs(differences)) < 0.06


@pytest.mark.slow
def test_lines_of_one_batch_do_not_meet(
    tiny_en: SpeechModel, together: list[Transcript], waveforms: list[np.ndarray]
) -> None:
    assert [heard(tiny_en, [waveform])[0] for waveform in waveforms] == together


@pytest.mark.slow
@pytest.mark.weights
def test_italian_words_stand_where_they_are_heard() -> None:
    """Two prompts behind each other: the words of the second begin where the first ends."""
    model = base()
    first, second = italian(8)[2:4]
    joined = np.concatenate([first[:, :-2], second], axis=1)
    clips = [DecodingRequest(features, "it", words=True) for features in (first, joined)]
    alone, both = decode(model, clips, "full")
    border_s = duration_s(clips[0])
    count = len(alone.text.split())
    assert len(both.words) > count + 2
    assert abs(both.words[count].start_s - border_s) < 0.5
    assert all(word.end_s <= border_s + 0.3 for word in both.words[:count])


def test_without_known_heads_the_upper_layers_serve(
    tiny_en: SpeechModel, together: list[Transcript], waveforms: list[np.ndarray]
) -> None:
    network: Any = tiny_en.network
    clip = DecodingRequest(tiny_en.features(waveforms[0]), "en", words=True)
    known = together[0]
    heads = network.generation_config.alignment_heads
    network.generation_config.alignment_heads = None
    try:
        [guessed] = decode(tiny_en, [clip], "full")
    finally:
        network.generation_config.alignment_heads = heads
    assert [word.text for word in guessed.words] == [word.text for word in known.words]
    differences = [abs(a.start_s - b.start_s) for a, b in zip(known.words, guessed.words, strict=True)]
    assert np.median(differences) < 0.2
    assert guessed.words != known.words


def test_a_breath_of_sound_has_times_too(tiny_en: SpeechModel) -> None:
    with torch.no_grad():
        encoded = tiny_en.network.model.encoder(torch.zeros(1, 80, 100)).last_hidden_state
    prompt = tuple(prompt_ids(tiny_en.tokenizer, None))
    for duration in (0.001, 0.02, 0.07, 0.5):
        line = AlignmentTarget(prompt, tuple(text_ids(tiny_en.tokenizer, "Hello there")), duration, None)
        [words] = align(tiny_en, encoded, [line])
        assert [word.text for word in words] == [" Hello", " there"]
        assert all(0 <= word.start_s <= word.end_s <= duration for word in words)
