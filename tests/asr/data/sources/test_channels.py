from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from asr.audio.sandbox import MOST_TASKS, decode_utterance
from asr.config import resolve
from asr.data.manifest import read_manifest, write_manifest
from asr.data.sources import SourceConfig, rows
from asr.data.sources.channels import chosen
from asr.errors import UserError
from asr.sound import EACH, SoundChoice
from asr.utterance import Quarantined, Utterance
from tests.asr.sounds import Voice, loud, muxed, tone, wav16
from train.config import TrainConfig

LEFT, RIGHT = tone(1.0), tone(1.0, hz=880.0)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "stereo.wav").write_bytes(wav16(np.stack([LEFT, RIGHT], axis=1), channels=2))
    (tmp_path / "mono.wav").write_bytes(wav16(LEFT))
    muxed(tmp_path / "two.mka", "matroska", "pcm_s16le", [Voice(0 * LEFT), Voice(LEFT)])
    lines = [{"audio_filepath": name, "text": name} for name in ("stereo.wav", "mono.wav", "two.mka", "none.wav")]
    lines[2] |= {"audio_track": 1}  # type: ignore[dict-item]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(source: Path, **options: object) -> list[Utterance | Quarantined]:
    return list(rows(SourceConfig(source=str(source), **options), source.parent))  # type: ignore[arg-type]


@pytest.mark.medium
def test_a_source_chooses_and_a_row_chooses_for_itself(manifest: Path) -> None:
    for channel, expected in (("left", LEFT), ("right", RIGHT), ("mix", (LEFT + RIGHT) / 2)):
        stereo, _, two, _ = read(manifest, channel=channel)
        assert isinstance(stereo, Utterance) and isinstance(two, Utterance)
        assert np.abs(decode_utterance(stereo) - expected).max() < 1e-3
        assert two.sound == SoundChoice(1)
        assert len(loud(decode_utterance(two))) == 1


@pytest.mark.medium
def test_each_channel_is_an_utterance(manifest: Path) -> None:
    found = read(manifest, channel="each")
    assert [row.id for row in found] == [
        "stereo.wav#left",
        "stereo.wav#right",
        "mono.wav",
        "two.mka#track1",
        "none.wav",
    ]
    for row, expected in zip(found, (LEFT, RIGHT, LEFT), strict=False):
        assert isinstance(row, Utterance) and np.abs(decode_utterance(row) - expected).max() < 1e-3
    assert isinstance(found[-1], Quarantined) and found[-1].reason == "missing_file"


@pytest.mark.medium
def test_what_was_chosen_survives_a_manifest(manifest: Path, tmp_path: Path) -> None:
    chosen = [row for row in read(manifest, channel="each") if isinstance(row, Utterance)]
    again = tmp_path / "again.jsonl"
    write_manifest(again, chosen)
    assert [(row.id, row.sound) for row in read_manifest(again)] == [(row.id, row.sound) for row in chosen]
    assert [row.sound for row in read(again) if isinstance(row, Utterance)] == [row.sound for row in chosen]


def test_a_row_that_chooses_what_cannot_be_is_quarantined(manifest: Path) -> None:
    manifest.write_text(json.dumps({"audio_filepath": "stereo.wav", "text": "x", "audio_channel": "both"}) + "\n")
    (row,) = read(manifest)
    assert isinstance(row, Quarantined) and row.reason == "bad_channel"


@pytest.mark.parametrize("wrong", [{"channel": "both"}, {"track": -1}])
def test_a_source_that_chooses_what_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SourceConfig(source="a.jsonl", **wrong)  # type: ignore[arg-type]


def test_a_channel_may_be_a_number_and_a_wrong_one_is_told_in_one_line() -> None:
    assert resolve(SourceConfig, None, ["source=a.jsonl", "channel=1"]).value.sound == SoundChoice(channel="1")
    for given, told in (("channel: middle", "data.train.channel: channel is one of"), ("chanel: 1", "did you mean")):
        settings = ["base=builtin:base", f"data.train={{source: a.jsonl, {given}}}"]
        with pytest.raises(UserError, match=told) as caught:
            resolve(TrainConfig, None, settings)
        assert "\n" not in caught.value.message and "SourceConfig" not in caught.value.message


def test_two_speakers_of_one_call_were_one_utterance(manifest: Path) -> None:
    sides = [{"audio_filepath": "stereo.wav", "text": side, "audio_channel": side} for side in ("left", "right")]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in sides))
    assert [row.id for row in read(manifest)] == ["stereo.wav#left", "stereo.wav#right"]
    assert [row.id for row in read_manifest(manifest)] == ["stereo.wav#left", "stereo.wav#right"]


@pytest.mark.medium
def test_each_channel_was_a_request_to_the_sandbox_for_each_row(tmp_path: Path, trips: list[int]) -> None:
    mono, stereo = wav16(LEFT), wav16(np.stack([LEFT, RIGHT], axis=1), channels=2)
    given: list[Utterance | Quarantined] = [
        Utterance(str(number), (mono, stereo, b"no audio", str(tmp_path / "gone.wav"))[number % 4])
        for number in range(100)
    ]
    given[50:50] = [Quarantined("known", "no_speech"), Utterance("own", stereo, sound=SoundChoice(channel="left"))]
    found = list(chosen(given, SoundChoice(channel=EACH)))
    assert sum(trips) == 100 and len(trips) < 10
    assert found == [row for one in given for row in chosen([one], SoundChoice(channel=EACH))]
    assert len(found) == 25 + 50 + 25 + 25 + 2


@pytest.mark.medium
def test_a_source_is_not_read_ahead_of_where_channels_are_counted() -> None:
    read = 0

    def endless() -> Iterator[Utterance]:
        nonlocal read
        while True:
            read += 1
            yield Utterance(str(read), wav16(LEFT))

    for choice, most in ((EACH, MOST_TASKS), ("left", 1)):
        read = 0
        taken = chosen(endless(), SoundChoice(channel=choice))
        assert next(taken).id == "1"
        assert read <= most
