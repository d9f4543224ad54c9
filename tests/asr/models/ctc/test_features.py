from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, PreTrainedModel

from asr.audio.decode import SAMPLE_RATE
from asr.audio.features import LogMel
from asr.errors import UserError
from asr.models.ctc.features import ClipFeatures, load_features
from asr.models.ctc.positions import frame_lengths
from tests.asr.models.ctc import tiny
from tests.asr.sounds import tone

# LASR convolves with even kernels, and WavLM hands torch masks of two kinds: torch warns of both, once in a process
pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning"),
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning"),
]

Checkpoint = Callable[[str], Path]
Networks = Callable[[str], PreTrainedModel]
Extractors = Callable[[str], ClipFeatures]
HEARD = [name for name in tiny.CONFIGS if name != "granite-speech-5.0"]  # its extractor needs torchaudio
SPECTROGRAMS = ["w2v-bert-2.0", "parakeet-ctc-0.6b", "medasr"]


def clip(seconds: float, hz: float = 200.0) -> np.ndarray:
    """A voice of sorts: a tone with its overtones that swells, and breath."""
    rng = np.random.default_rng(round(seconds * 1000))
    voice = sum(tone(seconds, hz=hz * k) / k for k in range(1, 9))
    swell = np.sin(np.linspace(0, 7 * np.pi * seconds, len(voice))) ** 2
    return (0.3 * swell * voice + 0.01 * rng.standard_normal(len(voice)) + 0.02).astype(np.float32)


CLIPS = [clip(seconds, hz) for seconds, hz in ((1.03, 110.0), (0.7312, 220.0), (1.5001, 150.0))]


def theirs(folder: Path, clips: list[np.ndarray]) -> dict[str, torch.Tensor]:
    extractor: Any = AutoFeatureExtractor.from_pretrained(folder)
    made = extractor(clips, sampling_rate=SAMPLE_RATE, padding=True, return_attention_mask=True, return_tensors="pt")
    return dict(made)


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Spectrograms are kept in half precision."""
    return torch.allclose(one, other, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("name", [*SPECTROGRAMS, "wav2vec2-large-lv60", "data2vec-audio-base"])
def test_a_batch_is_that_of_the_extractor(checkpoint: Checkpoint, features_of: Extractors, name: str) -> None:
    features = features_of(name)
    batch = features.pad_batch([features(one) for one in CLIPS], 0)
    wanted = theirs(checkpoint(name), CLIPS)
    mask = batch["attention_mask"].bool()
    length = min(mask.shape[1], wanted["attention_mask"].shape[1])
    assert torch.equal(mask[:, :length], wanted["attention_mask"].bool()[:, :length])
    assert not wanted["attention_mask"][:, length:].any() and not mask[:, length:].any()
    key = "input_features" if name in SPECTROGRAMS else "input_values"
    assert batch.keys() == {key, "attention_mask"}
    assert batch[key].dtype == torch.float32
    heard = mask[:, :length]
    assert close(batch[key][:, :length][heard], wanted[key][:, :length][heard])
    if name not in SPECTROGRAMS:
        assert torch.equal(batch[key][:, :length], wanted[key][:, :length])
        assert not batch[key][:, length:].any()


@pytest.mark.parametrize("name", ["wav2vec2-base-960h"])
def test_without_a_mask_each_clip_is_normalised_alone(
    checkpoint: Checkpoint, features_of: Extractors, name: str
) -> None:
    """The extractor's own batch without a mask is normalised with its padding: the same clip is then another."""
    features = features_of(name)
    batch = features.pad_batch([features(one) for one in CLIPS])
    assert batch.keys() == {"input_values"}
    for row, one in zip(batch["input_values"], CLIPS, strict=True):
        assert torch.equal(row[: len(one)], theirs(checkpoint(name), [one])["input_values"][0])
        assert not row[len(one) :].any()


def test_a_whisper_has_its_log_mel(checkpoint: Checkpoint, features_of: Extractors) -> None:
    features = features_of("whisper-tiny")
    assert isinstance(features, LogMel)
    batch = features.pad_batch([features(one) for one in CLIPS])
    assert batch.keys() == {"input_features"} and batch["input_features"].shape == (3, 80, 300)
    extractor: Any = AutoFeatureExtractor.from_pretrained(checkpoint("whisper-tiny"))
    wanted = extractor(CLIPS, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"][:, :, :300]
    assert torch.allclose(batch["input_features"], wanted, atol=2e-3)


@pytest.mark.parametrize("name", [*tiny.UNLIKE, "medasr"])
def test_frames_are_foretold(features_of: Extractors, name: str) -> None:
    features = features_of(name)
    for samples in (1, 399, 3199, 3920, 16000, 16079, 16080, 16081, 16240, 40123):
        made = features(np.zeros(samples, dtype=np.float32))
        assert made.shape[1] == features.num_frames(samples)
        assert np.isfinite(made).all()


@pytest.mark.parametrize("name", HEARD)
def test_the_shortest_clip_has_positions(features_of: Extractors, network_of: Networks, name: str) -> None:
    """Too few and SpecAugment, or a mean over them, stops the training."""
    features = features_of(name)
    network = network_of(name)
    network.train()
    for parameter in ("mask_time_prob", "mask_feature_prob"):
        if hasattr(network.config, parameter):
            setattr(network.config, parameter, 0.5)
    for samples in (1, 4001):
        batch = features.pad_batch([features(np.full(samples, 0.1, dtype=np.float32))])
        assert torch.isfinite(network(**batch).logits).all()


@pytest.mark.parametrize("name", HEARD)
def test_batched_or_alone_the_same_is_said(features_of: Extractors, network_of: Networks, name: str) -> None:
    """In one batch where padding is not heard, else in batches of the same padded length."""
    features = features_of(name)
    network = network_of(name)
    clips = [features(one) for one in CLIPS]
    groups: dict[int, list[int]] = {}
    for index, one in enumerate(clips):
        key = features.padded_frames(one.shape[1]) if features.hears_padding else 0
        groups.setdefault(key, []).append(index)
    with torch.inference_mode():
        for group in groups.values():
            batch = features.pad_batch([clips[index] for index in group])
            together = network(**batch).logits
            for row, index in enumerate(group):
                own = features.pad_batch([clips[index]])
                alone = network(**own).logits[0]
                length = frame_lengths(network, own["attention_mask"])[0] if "attention_mask" in own else len(alone)
                assert length >= 9
                torch.testing.assert_close(together[row, :length], alone[:length], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["wavlm-base", "data2vec-audio-base", "wav2vec2-conformer-rel-pos-large"])
def test_some_hear_padding_through_their_mask(features_of: Extractors, network_of: Networks, name: str) -> None:
    features = features_of(name)
    assert features.hears_padding
    network = network_of(name)
    clips = [features(one) for one in CLIPS]
    batch, own = features.pad_batch(clips), torch.from_numpy(clips[1])
    with torch.inference_mode():
        together = network(**batch).logits[1]
        alone = network(input_values=own, attention_mask=torch.ones(own.shape, dtype=torch.int32)).logits[0]
    length = int(frame_lengths(network, batch["attention_mask"])[1])
    assert (together[:length] - alone[:length]).abs().max() > 1e-3


@pytest.mark.parametrize("name", [*tiny.UNLIKE, "medasr"])
def test_features_are_small_and_pickle(features_of: Extractors, name: str) -> None:
    features = features_of(name)
    again: ClipFeatures = pickle.loads(pickle.dumps(features))
    assert np.array_equal(again(CLIPS[0]), features(CLIPS[0]))
    assert len(pickle.dumps(features)) < 500_000


def test_a_spectrogram_is_half_as_large_as_it_could_be(features_of: Extractors) -> None:
    for name in (*SPECTROGRAMS, "whisper-tiny"):
        features = features_of(name)
        assert features.is_spectrogram and features(CLIPS[0]).dtype == np.float16
    features = features_of("mms-1b-all")
    assert not features.is_spectrogram and features(CLIPS[0]).dtype == np.float32


@pytest.mark.parametrize(
    ("name", "seconds"), [("wav2vec2-base-960h", 2.0), ("wav2vec2-large-lv60", 1.5001), ("parakeet-ctc-0.6b", 1.5)]
)
def test_the_encoder_sees_what_it_is_given(features_of: Extractors, name: str, seconds: float) -> None:
    features = features_of(name)
    frames = features.num_frames(len(CLIPS[2]))
    assert features.encoder_s(frames, "short") == pytest.approx(seconds, abs=1e-3)


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = tiny.write_config(tmp_path, "granite-speech-5.0")
    (folder / "preprocessor_config.json").write_text('{"feature_extractor_type": "GraniteSpeech5FeatureExtractor"}')
    with pytest.raises(UserError, match="need another package"):
        load_features(folder)


def test_another_rate_is_refused(tmp_path: Path) -> None:
    folder = tiny.write_config(tmp_path, "wav2vec2-base-960h")
    (folder / "preprocessor_config.json").write_text(
        '{"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 8000}'
    )
    with pytest.raises(ValueError, match="it takes 8000 Hz"):
        load_features(folder)


@pytest.mark.slow
def test_no_network_is_imported(checkpoint: Checkpoint) -> None:
    program = (
        "import sys; from pathlib import Path; from asr.models.ctc.features import load_features;"
        f"features = load_features(Path({str(checkpoint('wav2vec2-large-lv60'))!r}));"
        "import numpy as np; features(np.zeros(16000, dtype=np.float32));"
        "print([name for name in sys.modules if '.modeling_' in name and 'models' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("span", [10**9, -1, "10", None])
def test_a_mask_longer_than_any_clip_padded_each_clip_to_it(tmp_path: Path, span: object) -> None:
    folder = tiny.write(tmp_path, "wav2vec2-base-960h")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mask_time_length": span}))
    with pytest.raises(ValueError, match="mask_time_length"):
        load_features(folder)


@pytest.mark.parametrize("name", ["feature_size", "n_fft", "hop_length"])
def test_an_absurd_number_ate_all_memory_before_the_extractor_was_made(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.write(tmp_path, "wav2vec2-base-960h")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: 10**9}))
    monkeypatch.setattr(AutoFeatureExtractor, "from_pretrained", lambda *_, **__: pytest.fail("it was made"))
    with pytest.raises(ValueError, match=f"{name} is 1000000000"):
        load_features(folder)
