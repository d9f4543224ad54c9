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

from asr.audio.decode import decode as decode_audio
from asr.errors import UserError
from asr.models.artifact import load_model
from asr.models.export import RECORD, export
from asr.models.family import SpeechModel
from asr.models.whisper.batch_decode import transcribe_batch
from asr.models.whisper.ct2_backend import CTranslateModel, loads
from asr.models.whisper.torch_backend import decode
from asr.scoring.evaluation import Evaluation, UtteranceResult
from asr.transcript import DecodingRequest, Transcript
from asr.utterance import Utterance
from tests.asr.models.test_export import write_artifact
from tests.asr.speech import base, italian


@pytest.fixture(scope="module")
def exact() -> CTranslateModel:
    """Whisper base with the weights that torch has."""
    return CTranslateModel.load("builtin:base", threads=1, quantization="float32")


@pytest.fixture(scope="module")
def small() -> CTranslateModel:
    """The same in int8."""
    return CTranslateModel.load("builtin:base", threads=1)


@pytest.fixture(scope="module")
def random(random_checkpoint: Path) -> CTranslateModel:
    """Random weights, for what has nothing to do with words."""
    return CTranslateModel.load(str(random_checkpoint), threads=1, quantization="float32")


@pytest.fixture(scope="module")
def exported(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as an export, not to be changed."""
    folder = tmp_path_factory.mktemp("exported") / "out"
    export(str(random_checkpoint), folder, "ctranslate2")
    return folder


@pytest.fixture(scope="module")
def clips() -> list[DecodingRequest]:
    return [DecodingRequest(features, "it") for features in italian(4)]


@pytest.fixture(scope="module")
def by_torch(clips: list[DecodingRequest]) -> list[Transcript]:
    """What the reference hears, with the times of words."""
    return decode(base(), [replace(clip, words=True) for clip in clips], "full")


@pytest.fixture(scope="module")
def heard(exact: CTranslateModel, clips: list[DecodingRequest]) -> list[Transcript]:
    """What we hear with its weights."""
    return transcribe_batch(exact, [replace(clip, words=True) for clip in clips], "full")


@pytest.fixture(scope="module")
def guessed(small: CTranslateModel, clips: list[DecodingRequest]) -> list[Transcript]:
    """What we hear of them where the language isn't told, with the times of segments."""
    return transcribe_batch(small, [replace(clip, language=None, timestamps=True) for clip in clips], "full")


@pytest.fixture(scope="module")
def english(tiny_en: SpeechModel, english_clips: list[Utterance]) -> list[DecodingRequest]:
    return [DecodingRequest(tiny_en.features(decode_audio(Path(str(clip.audio))))) for clip in english_clips[:6]]


@pytest.fixture(scope="module")
def english_by_torch(tiny_en: SpeechModel, english: list[DecodingRequest]) -> list[Transcript]:
    return decode(tiny_en, english, "full")


def difference(said: Sequence[Transcript], heard: Sequence[Transcript]) -> float:
    """Word error rate of one engine against another."""
    results = [UtteranceResult(str(i), a.text, b.text, 1.0) for i, (a, b) in enumerate(zip(said, heard, strict=True))]
    return Evaluation("ctranslate2", "it", "full", results, 1.0).wer.rate


@pytest.mark.slow
@pytest.mark.weights
def test_unquantised_the_tokens_are_torch_s(heard: list[Transcript], by_torch: list[Transcript]) -> None:
    same = sum(ours.tokens == theirs.tokens for ours, theirs in zip(heard, by_torch, strict=True))
    assert same >= len(heard) - 1, "rounding may tip the balance between two tokens once"
    for ours, theirs in zip(heard, by_torch, strict=True):
        if ours.tokens == theirs.tokens:
            assert ours.avg_logprob == pytest.approx(theirs.avg_logprob, abs=1e-3)
            assert ours.no_speech_prob == pytest.approx(theirs.no_speech_prob, abs=1e-3)
            assert ours.compression_ratio == theirs.compression_ratio


@pytest.mark.slow
def test_int8_says_nearly_the_same(
    tiny_en_name: str, english: list[DecodingRequest], english_by_torch: list[Transcript]
) -> None:
    model = CTranslateModel.load(tiny_en_name, threads=1)
    assert difference(english_by_torch, transcribe_batch(model, english, "full")) < 0.1


@pytest.mark.slow
def test_english_only_tokens_are_torch_s(
    tiny_en_name: str, english: list[DecodingRequest], english_by_torch: list[Transcript]
) -> None:
    model = CTranslateModel.load(tiny_en_name, threads=1, quantization="float32")
    assert model.known_languages == {"en"}
    heard = transcribe_batch(model, english, "full")
    assert sum(a.tokens == b.tokens for a, b in zip(heard, english_by_torch, strict=True)) >= len(english) - 1


@pytest.mark.slow
@pytest.mark.weights
def test_clips_that_ask_for_different_things_share_a_batch(
    exact: CTranslateModel, clips: list[DecodingRequest], heard: list[Transcript]
) -> None:
    one, two, three, *_ = clips
    mixed = [
        replace(one, language="en"),
        replace(one, task="translate"),
        replace(two, language=None, words=True),
        replace(two, prompt="Si tratta di numeri interni."),
        replace(three, temperature=0.9, timestamps=True, prompt="Interno."),
        replace(three, words=True),
    ]
    together = transcribe_batch(exact, mixed, "full", fallback=True)
    alone = [transcribe_batch(exact, [clip], "full", fallback=True)[0] for clip in mixed[:-1]]
    assert together == [*alone, heard[2]]
    assert len({transcript.tokens for transcript in together}) >= 5, "or nothing of it would show"


@pytest.mark.slow
@pytest.mark.weights
def test_the_language_is_heard(small: CTranslateModel, guessed: list[Transcript]) -> None:
    assert [transcript.language for transcript in guessed].count("it") >= len(guessed) - 1
    assert "it" in small.known_languages and len(small.known_languages) == 99


@pytest.mark.weights
def test_words_are_in_order_inside_the_clip_and_where_torch_has_them(
    clips: list[DecodingRequest], heard: list[Transcript], by_torch: list[Transcript]
) -> None:
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


@pytest.mark.weights
def test_segments_have_times_of_their_own(clips: list[DecodingRequest], guessed: list[Transcript]) -> None:
    for clip, one in zip(clips, guessed, strict=True):
        times = [time for each in one.segments for time in (each.start_s, each.end_s)]
        assert times == sorted(times) and times[-1] <= clip.features.shape[1] / 100
        assert tuple(token for each in one.segments for token in each.tokens) == one.tokens


@pytest.mark.slow
@pytest.mark.weights
def test_what_is_drawn_is_drawn_again_whatever_else_is_in_the_batch(
    small: CTranslateModel, clips: list[DecodingRequest]
) -> None:
    hot = [replace(clips[0], temperature=1.0), replace(clips[1], temperature=1.0)]
    first = transcribe_batch(small, hot, "short")
    assert transcribe_batch(small, [clips[2], *hot], "short")[1:] == first
    assert {transcript.temperature for transcript in first} == {1.0}
    others = transcribe_batch(small, [replace(clips[0], temperature=heat) for heat in (0.9, 1.1)], "short")
    assert len({transcript.text for transcript in (first[0], *others)}) > 1


def test_a_short_context_is_encoded_as_such(random: CTranslateModel) -> None:
    frames = []
    generator = np.random.default_rng(3)
    clips = [
        DecodingRequest(generator.standard_normal((80, n)).astype(np.float16), prompt="telefono " * 300)
        for n in (90, 400)
    ]

    class Counting(CTranslateModel):
        def encode(self, features: Sequence[np.ndarray], clips: Sequence[int]) -> object:
            encoded = super().encode(features, clips)
            frames.append((features[0].shape[2], encoded.shape[1]))
            return encoded

    counting = Counting(
        random.whisper, random.replica, random.tokenizer, random.features, random.quantization, random.known_languages
    )
    transcribe_batch(counting, clips, "short")
    assert len(frames) == len(clips)
    assert all(seen % 100 == 0 and seen < 1500 and positions == seen // 2 for seen, positions in frames)


def test_a_cpu_encodes_half_a_minute_at_a_time_and_no_row_changes(random: CTranslateModel) -> None:
    features = np.random.default_rng(2).standard_normal((7, 80, 1000)).astype(np.float32)
    whole = random.whisper.encode(StorageView.from_array(features), to_cpu=True)
    asked = []

    class Whisper:
        device = "cpu"

        def encode(self, features: StorageView, to_cpu: bool) -> StorageView:
            asked.append(features.shape[0])
            return random.whisper.encode(features, to_cpu=to_cpu)

    encoded = replace(random, whisper=Whisper()).encode([features], range(7))
    assert asked == [3, 3, 1]
    assert np.array_equal(np.asarray(encoded), np.asarray(whole))


def test_a_row_may_use_all_positions_of_the_decoder_as_torch_s_do(
    random: CTranslateModel, random_checkpoint: Path
) -> None:
    """Random weights find no end: CTranslate2's own bound is half of it."""
    features = np.random.default_rng(1).standard_normal((80, 200)).astype(np.float16)
    clips = [DecodingRequest(features), DecodingRequest(features, prompt="telefono " * 300)]
    ours = transcribe_batch(random, clips, "short")
    theirs = decode(load_model(str(random_checkpoint)), clips, "short")
    assert [len(one.tokens) for one in ours] == [len(one.tokens) for one in theirs] == [446, 222]


@pytest.mark.weights
def test_silence_is_no_words(small: CTranslateModel) -> None:
    silence = DecodingRequest(small.features(np.zeros(80_000, dtype=np.float32)), "it", words=True, timestamps=True)
    [heard] = transcribe_batch(small, [silence], "full", fallback=True)
    assert (heard.text, heard.words) == ("", ())


def test_an_artifact_s_card_is_known(random_checkpoint: Path, tmp_path: Path, own_cache: Path) -> None:
    folder = write_artifact(tmp_path / "artifact", str(random_checkpoint))
    straight = CTranslateModel.load(str(folder), threads=1)
    assert (straight.language, straight.short_context) == ("en", True)
    export(str(folder), tmp_path / "out", "ctranslate2")
    shutil.rmtree(folder)
    moved = CTranslateModel.load(str(tmp_path / "out"), threads=1)
    assert (moved.language, moved.short_context) == ("en", True)


def test_a_folder_that_others_wrote(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        if path.name not in ("model.bin", "config.json", "tokenizer.json", "vocabulary.json"):
            path.unlink()
    model = CTranslateModel.load(str(tmp_path / "out"), threads=1)
    assert (model.language, model.short_context, model.features.bins) == (None, False, 80)


@pytest.mark.parametrize("damage", ["model.bin", "tokenizer.json", "config.json"])
def test_damage_is_a_persons_mistake(exported: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(exported, tmp_path / "out")
    (tmp_path / "out" / damage).write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match=damage.replace(".", r"\.")):
        CTranslateModel.load(str(tmp_path / "out"), threads=1)
    (tmp_path / "out" / RECORD).unlink()  # what others wrote has no digests
    with pytest.raises(UserError, match=damage.replace(".", r"\.")):
        CTranslateModel.load(str(tmp_path / "out"), threads=1)


def test_a_multilingual_folder_without_languages_is_refused(random_multilingual: Path, tmp_path: Path) -> None:
    export(str(random_multilingual), tmp_path / "out", "ctranslate2")
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
