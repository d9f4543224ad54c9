from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ctranslate2 import StorageView

from asr import audio
from asr.artifact import load_model
from asr.clip import Clip, Transcript
from asr.ctranslate import CTranslateModel, loads
from asr.decode import decode
from asr.errors import UserError
from asr.evaluation import Evaluation, UtteranceResult
from asr.export import RECORD, export
from asr.hearing import hear
from asr.model import SpeechModel
from asr.utterance import Utterance
from tests.asr.speech import base, italian
from tests.asr.test_export import write_artifact


@pytest.fixture(scope="module")
def exact() -> CTranslateModel:
    """Whisper base with the weights that torch has."""
    return CTranslateModel.load("builtin:base", threads=1, quantization="float32")


@pytest.fixture(scope="module")
def small() -> CTranslateModel:
    """The same in int8."""
    return CTranslateModel.load("builtin:base", threads=1)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [Clip(features, "it") for features in italian(6)]


@pytest.fixture(scope="module")
def by_torch(clips: list[Clip]) -> list[Transcript]:
    """What the reference hears, with the times of words."""
    return decode(base(), [replace(clip, words=True) for clip in clips], "full")


@pytest.fixture(scope="module")
def english(tiny_en: SpeechModel, english_clips: list[Utterance]) -> list[Clip]:
    return [Clip(tiny_en.log_mel(audio.decode(Path(str(clip.audio))))) for clip in english_clips[:8]]


@pytest.fixture(scope="module")
def english_by_torch(tiny_en: SpeechModel, english: list[Clip]) -> list[Transcript]:
    return decode(tiny_en, english, "full")


def difference(said: Sequence[Transcript], heard: Sequence[Transcript]) -> float:
    """Word error rate of one engine against another."""
    results = [UtteranceResult(str(i), a.text, b.text, 1.0) for i, (a, b) in enumerate(zip(said, heard, strict=True))]
    return Evaluation("ctranslate2", "it", "full", results, 1.0).wer.rate


def test_unquantised_the_tokens_are_torch_s(
    exact: CTranslateModel, clips: list[Clip], by_torch: list[Transcript]
) -> None:
    heard = hear(exact, clips, "full")
    same = sum(ours.tokens == theirs.tokens for ours, theirs in zip(heard, by_torch, strict=True))
    assert same >= len(clips) - 1, "rounding may tip the balance between two tokens once"
    for ours, theirs in zip(heard, by_torch, strict=True):
        if ours.tokens == theirs.tokens:
            assert ours.avg_logprob == pytest.approx(theirs.avg_logprob, abs=1e-3)
            assert ours.no_speech_prob == pytest.approx(theirs.no_speech_prob, abs=1e-3)
            assert ours.compression_ratio == theirs.compression_ratio


def test_int8_says_nearly_the_same(tiny_en_name: str, english: list[Clip], english_by_torch: list[Transcript]) -> None:
    model = CTranslateModel.load(tiny_en_name, threads=1)
    assert difference(english_by_torch, hear(model, english, "full")) < 0.1


def test_english_only_tokens_are_torch_s(
    tiny_en_name: str, english: list[Clip], english_by_torch: list[Transcript]
) -> None:
    model = CTranslateModel.load(tiny_en_name, threads=1, quantization="float32")
    assert model.known_languages == {"en"}
    heard = hear(model, english, "full")
    assert sum(a.tokens == b.tokens for a, b in zip(heard, english_by_torch, strict=True)) >= len(english) - 1


def test_clips_that_ask_for_different_things_share_a_batch(exact: CTranslateModel, clips: list[Clip]) -> None:
    one, two, three, *_ = clips
    mixed = [
        one,
        replace(one, language="en"),
        replace(one, task="translate"),
        replace(two, language=None, words=True),
        replace(two, prompt="Si tratta di numeri interni."),
        replace(two, prompt="Interno."),
        replace(two, timestamps=True),
        replace(three, temperature=0.8),
        replace(three, temperature=0.9, timestamps=True, prompt="Interno."),
        three,
    ]
    together = hear(exact, mixed, "full", fallback=True)
    alone = [hear(exact, [clip], "full", fallback=True)[0] for clip in mixed]
    assert together == alone
    assert len({transcript.tokens for transcript in together}) >= 5, "or nothing of it would show"


def test_the_language_is_heard(small: CTranslateModel, clips: list[Clip]) -> None:
    heard = hear(small, [replace(clip, language=None) for clip in clips], "full")
    assert [transcript.language for transcript in heard].count("it") >= len(clips) - 1
    assert "it" in small.known_languages and len(small.known_languages) == 99


def test_words_are_in_order_inside_the_clip_and_where_torch_has_them(
    exact: CTranslateModel, clips: list[Clip], by_torch: list[Transcript]
) -> None:
    heard = hear(exact, [replace(clip, words=True) for clip in clips], "full")
    compared = 0
    for clip, ours, theirs in zip(clips, heard, by_torch, strict=True):
        assert "".join(word.text for word in ours.words).strip() == ours.text
        times = [time for word in ours.words for time in (word.start_s, word.end_s)]
        assert times == sorted(times) and times[0] >= 0 and times[-1] <= clip.features.shape[1] / 100
        assert all(0 < word.probability <= 1 for word in ours.words)
        if ours.tokens == theirs.tokens:
            for word, other in zip(ours.words, theirs.words, strict=True):
                assert word.text == other.text
                assert (word.start_s, word.end_s) == pytest.approx((other.start_s, other.end_s), abs=0.1)
                assert word.probability == pytest.approx(other.probability, abs=0.01)
                compared += 1
    assert compared > 20


def test_segments_have_times_of_their_own(small: CTranslateModel, clips: list[Clip]) -> None:
    for clip, heard in zip(clips, hear(small, [replace(c, timestamps=True) for c in clips], "full"), strict=True):
        times = [time for each in heard.segments for time in (each.start_s, each.end_s)]
        assert times == sorted(times) and times[-1] <= clip.features.shape[1] / 100
        assert tuple(token for each in heard.segments for token in each.tokens) == heard.tokens


def test_what_is_drawn_is_drawn_again_whatever_else_is_in_the_batch(small: CTranslateModel, clips: list[Clip]) -> None:
    hot = [replace(clips[0], temperature=1.0), replace(clips[1], temperature=1.0)]
    first = hear(small, hot, "short")
    assert hear(small, [clips[2], *hot], "short")[1:] == first
    assert {transcript.temperature for transcript in first} == {1.0}
    assert len({hear(small, [replace(clips[0], temperature=heat)], "short")[0].text for heat in (0.9, 1.0, 1.1)}) > 1


def test_a_short_context_is_encoded_as_such(small: CTranslateModel, clips: list[Clip]) -> None:
    frames = []

    class Counting(CTranslateModel):
        def encode(self, features: Sequence[np.ndarray], clips: Sequence[int]) -> object:
            encoded = super().encode(features, clips)
            frames.append((features[0].shape[2], encoded.shape[1]))
            return encoded

    counting = Counting(
        small.whisper, small.replica, small.tokenizer, small.log_mel, small.quantization, small.known_languages
    )
    hear(counting, clips, "short")
    assert all(seen % 100 == 0 and seen < 1500 and positions == seen // 2 for seen, positions in frames)


def test_a_cpu_encodes_half_a_minute_at_a_time_and_no_row_changes(small: CTranslateModel) -> None:
    features = np.random.default_rng(2).standard_normal((7, 80, 1000)).astype(np.float32)
    whole = small.whisper.encode(StorageView.from_array(features), to_cpu=True)
    asked = []

    class Whisper:
        device = "cpu"

        def encode(self, features: StorageView, to_cpu: bool) -> StorageView:
            asked.append(features.shape[0])
            return small.whisper.encode(features, to_cpu=to_cpu)

    encoded = replace(small, whisper=Whisper()).encode([features], range(7))
    assert asked == [3, 3, 1]
    assert np.array_equal(np.asarray(encoded), np.asarray(whole))


@pytest.mark.parametrize("prompt", ["", "telefono " * 300])
def test_a_row_may_use_all_positions_of_the_decoder_as_torch_s_do(prompt: str, random_checkpoint: Path) -> None:
    """Random weights find no end: CTranslate2's own bound is half of it."""
    features = np.random.default_rng(1).standard_normal((80, 200)).astype(np.float16)
    clip = Clip(features, prompt=prompt)
    [ours] = hear(CTranslateModel.load(str(random_checkpoint), threads=1, quantization="float32"), [clip], "short")
    [theirs] = decode(load_model(str(random_checkpoint)), [clip], "short")
    assert len(ours.tokens) == len(theirs.tokens) == (222 if prompt else 446)


def test_silence_is_no_words(small: CTranslateModel) -> None:
    silence = Clip(small.log_mel(np.zeros(80_000, dtype=np.float32)), "it", words=True, timestamps=True)
    [heard] = hear(small, [silence], "full", fallback=True)
    assert (heard.text, heard.words) == ("", ())


def test_an_artifact_s_card_is_known(random_checkpoint: Path, tmp_path: Path, own_cache: Path) -> None:
    folder = write_artifact(tmp_path / "artifact", str(random_checkpoint))
    straight = CTranslateModel.load(str(folder), threads=1)
    assert (straight.language, straight.short_context) == ("en", True)
    export(str(folder), tmp_path / "out", "ctranslate2")
    shutil.rmtree(folder)
    moved = CTranslateModel.load(str(tmp_path / "out"), threads=1)
    assert (moved.language, moved.short_context) == ("en", True)


def test_a_folder_that_others_wrote(random_checkpoint: Path, tmp_path: Path) -> None:
    export(str(random_checkpoint), tmp_path / "out", "ctranslate2")
    for path in (tmp_path / "out").iterdir():
        if path.name not in ("model.bin", "config.json", "tokenizer.json", "vocabulary.json"):
            path.unlink()
    model = CTranslateModel.load(str(tmp_path / "out"), threads=1)
    assert (model.language, model.short_context, model.log_mel.extractor.feature_size) == (None, False, 80)


@pytest.mark.parametrize("damage", ["model.bin", "tokenizer.json", "config.json"])
def test_damage_is_a_persons_mistake(random_checkpoint: Path, tmp_path: Path, damage: str) -> None:
    export(str(random_checkpoint), tmp_path / "out", "ctranslate2")
    (tmp_path / "out" / damage).write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match=damage.replace(".", r"\.")):
        CTranslateModel.load(str(tmp_path / "out"), threads=1)
    (tmp_path / "out" / RECORD).unlink()  # what others wrote has no digests
    with pytest.raises(UserError, match=damage.replace(".", r"\.")):
        CTranslateModel.load(str(tmp_path / "out"), threads=1)


def test_a_multilingual_folder_without_languages_is_refused(small: CTranslateModel, tmp_path: Path) -> None:
    export("builtin:base", tmp_path / "out", "ctranslate2")
    (tmp_path / "out" / RECORD).unlink()
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    del settings["lang_ids"]
    (tmp_path / "out" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="no languages"):
        CTranslateModel.load(str(tmp_path / "out"), threads=1)


def test_what_the_device_cannot_do_is_said(tiny_en_name: str) -> None:
    with pytest.raises(UserError, match="quantization=float16 is nothing for this cpu"):
        CTranslateModel.load(tiny_en_name, quantization="float16")


def test_without_the_package_it_is_named(tiny_en_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(UserError, match="pip install ctranslate2"):
        CTranslateModel.load(tiny_en_name)


def test_a_gpu_without_nvidia_s_packages_was_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """``find_spec`` of a module in a package that is not there raises."""
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: 1)
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: (_ for _ in ()).throw(OSError))
    loads.cache_clear()
    assert not loads("cuda")
    loads.cache_clear()
    assert loads("cpu")
