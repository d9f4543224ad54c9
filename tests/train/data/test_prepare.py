from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import ValidationError

from asr.audio.decode import SAMPLE_RATE, decode, encode_flac
from asr.data.batches import ROWS
from asr.data.manifest import read_manifest
from asr.errors import UserError
from asr.utterance import Quarantined, Utterance
from tests.asr.disks import fill, small_disk
from tests.manifests import read_quarantine
from train.data.prefetch import THREADS
from train.data.prepare import PrepareConfig, prepare

CONFIG = PrepareConfig(min_test_clips=4, test_share=0.1, validation_share=0.1)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * SAMPLE_RATE)).astype(np.float32)


def clips(count: int) -> list[Utterance]:
    return [
        Utterance(f"clip/{n}", encode_flac(noise(1 + n / 20, n)), f"parola {'x' * n}", language="it", meta={"n": n})
        for n in range(count)
    ]


@pytest.mark.medium
def test_three_manifests_of_flac(tmp_path: Path) -> None:
    rows = clips(30)
    seen: list[tuple[int, int]] = []
    prepared = prepare(rows, tmp_path, CONFIG, lambda done, total: seen.append((done, total)))
    assert seen == [(n, 30) for n in range(1, 31)]
    assert prepared.clips == {"train": 23, "validation": 3, "test": 4}
    assert prepared.quarantined == {}
    written = {u.id: u for name in prepared.manifests for u in read_manifest(prepared.manifests[name])}
    assert len(written) == 30
    for number, row in enumerate(rows):
        clip = written[row.id]
        assert Path(str(clip.audio)).parent == tmp_path / "audio"
        assert np.array_equal(decode(str(clip.audio)), decode(row.audio))
        assert (clip.text, clip.language, clip.meta) == (row.text, "it", {"n": number})
        assert clip.duration_s == pytest.approx(1 + number / 20, abs=1e-4)
        assert (clip.start_s, clip.end_s) == (0.0, None)
    assert sum(prepared.hours.values()) * 3600 == pytest.approx(sum(1 + n / 20 for n in range(30)), abs=1)


@pytest.mark.medium
def test_the_summary_is_written_last_and_says_what_there_is(tmp_path: Path) -> None:
    prepared = prepare(clips(12), tmp_path, CONFIG)
    summary = json.loads((tmp_path / "prepared.json").read_text())
    assert summary["clips"] == prepared.clips
    assert summary["fingerprint"] == prepared.fingerprint
    assert summary["config"]["min_test_clips"] == 4
    with pytest.raises(UserError):
        prepare(clips(3), tmp_path, CONFIG)
    assert not (tmp_path / "prepared.json").exists()


@pytest.mark.medium
def test_same_input_in_any_order_same_output(tmp_path: Path) -> None:
    rows = clips(20)
    first, second = prepare(rows, tmp_path / "1", CONFIG), prepare(rows[::-1], tmp_path / "2", CONFIG)
    assert first.fingerprint == second.fingerprint
    for name in first.manifests:
        assert first.manifests[name].read_bytes() == second.manifests[name].read_bytes()
    changed = [*rows[:-1], Utterance(rows[-1].id, rows[-1].audio, "altro")]
    assert prepare(changed, tmp_path / "3", CONFIG).fingerprint != first.fingerprint


@pytest.mark.medium
def test_unusable_rows_are_named(tmp_path: Path) -> None:
    flac = encode_flac(noise(1.0))
    rows = [
        *clips(12),
        Quarantined("known", "lost_letters", "pi? tardi"),
        Utterance("gone", str(tmp_path / "gone.wav"), "ciao"),
        Utterance("text", b"this is text", "ciao"),
        Utterance("short", encode_flac(noise(0.1)), "ciao"),
        Utterance("long", encode_flac(noise(31.0)), "ciao"),
        Utterance("wordless", flac, " ... "),
        Utterance("mute", encode_flac(noise(1.0) * 0), "ciao"),
        Utterance("mute and wordless", encode_flac(noise(1.0) * 0), ""),
        Utterance("fast", flac, "parole " * 20),
        Utterance("cut", flac, "ciao", start_s=0.5, end_s=9.0),
        Utterance("clip/3", flac, "ciao"),
    ]
    prepared = prepare(rows, tmp_path / "out", CONFIG)
    table = read_quarantine(tmp_path / "out/quarantine.parquet")
    assert [(q.id, q.reason) for q in table] == [
        ("known", "lost_letters"),
        ("gone", "missing_file"),
        ("text", "not_audio"),
        ("short", "too_short"),
        ("long", "too_long"),
        ("wordless", "no_transcript"),
        ("mute", "silent"),
        ("mute and wordless", "no_transcript"),
        ("fast", "text_too_long"),
        ("cut", "truncated"),
        ("clip/3", "duplicate_id"),
    ]
    assert prepared.quarantined == dict(sorted(Counter(q.reason for q in table).items()))
    assert sum(prepared.clips.values()) == 12
    assert len(list((tmp_path / "out/audio").iterdir())) == 12


def test_nothing_usable_says_why(tmp_path: Path) -> None:
    rows = [Utterance(str(n), str(tmp_path / "no.wav"), f"parola {n}") for n in range(20)]
    with pytest.raises(UserError, match=r"0 clips .* quarantined: 20 missing_file"):
        prepare(rows, tmp_path, CONFIG)
    assert len(read_quarantine(tmp_path / "quarantine.parquet")) == 20


@pytest.mark.medium
def test_stretches_of_one_recording(tmp_path: Path) -> None:
    whole = noise(12.0)
    path = tmp_path / "long.flac"
    path.write_bytes(encode_flac(whole))
    rows = [
        Utterance(f"{n}", str(path), f"parola {n}", start_s=float(n), end_s=n + 0.75, duration_s=0.75)
        for n in range(12)
    ]
    prepared = prepare(rows, tmp_path / "out", CONFIG)
    for clip in read_manifest(prepared.manifests["train"]):
        start = int(clip.id) * SAMPLE_RATE
        assert np.allclose(decode(str(clip.audio)), whole[start : start + 12_000], atol=2e-5)


@pytest.mark.medium
@pytest.mark.parametrize("id", ["../../escape", "/etc/passwd", "a/b", "A/b", "x" * 500, "ключ", ".."])
def test_any_id_is_a_file_inside_the_folder(tmp_path: Path, id: str) -> None:
    prepared = prepare([*clips(12), Utterance(id, encode_flac(noise(1.0)), "ciao")], tmp_path / "out", CONFIG)
    rows = [u for path in prepared.manifests.values() for u in read_manifest(path)]
    (clip,) = [u for u in rows if u.id == id]
    assert Path(str(clip.audio)).resolve().parent == (tmp_path / "out/audio").resolve()
    assert len({str(u.audio).lower() for u in rows}) == 13


@pytest.mark.medium
def test_raw_g722(tmp_path: Path) -> None:
    rows = []
    for number in range(12):
        path = tmp_path / f"{number}.g722"
        with av.open(path, "w", format="g722") as media:
            stream = media.add_stream("g722", rate=SAMPLE_RATE, layout="mono")
            samples = (noise(1.0, number) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            media.mux(stream.encode(frame))
            media.mux(stream.encode(None))
        rows.append(Utterance(str(number), str(path), f"parola {number}"))
    assert prepare(rows, tmp_path / "out", CONFIG).quarantined == {}


def test_the_limits_must_leave_room() -> None:
    with pytest.raises(ValidationError, match="min_audio_s=5 is not below max_audio_s=5"):
        PrepareConfig(min_audio_s=5, max_audio_s=5)


@pytest.mark.medium
def test_filters_quarantine_by_name_and_lose_nothing(tmp_path: Path) -> None:
    second = encode_flac(noise(1.0))
    rows = [
        *clips(12),
        Utterance("foreign", second, "parola жест"),
        Utterance("tiny", second, "no"),
        Utterance("slow", encode_flac(noise(20.0)), "quasi niente"),
        Utterance("fast", second, "parole " * 20),
        Quarantined("known", "lost_letters"),
    ]
    config = CONFIG.model_copy(update={"min_chars": 3, "allowed_characters": "a-z ", "min_chars_per_s": 1.0})
    prepared = prepare(iter(rows), tmp_path, config)
    table = {q.id: q for q in read_quarantine(tmp_path / "quarantine.parquet")}
    assert {id: q.reason for id, q in table.items()} == {
        "foreign": "foreign_characters",
        "tiny": "too_few_characters",
        "slow": "text_too_short",
        "fast": "text_too_long",
        "known": "lost_letters",
    }
    assert "CYRILLIC SMALL LETTER ZHE" in table["foreign"].detail
    assert len(rows) == sum(prepared.clips.values()) + sum(prepared.quarantined.values())
    assert prepared.seconds_per_1000_clips > 0


@pytest.mark.medium
def test_splits_that_a_source_comes_with_are_kept(tmp_path: Path) -> None:
    rows = clips(9)
    parts = {"train": iter(rows[:5]), "validation": rows[5:6], "test": [*rows[6:], rows[0]]}
    prepared = prepare(parts, tmp_path, PrepareConfig())  # min_test_clips is for dealing
    written = {name: [u.id for u in read_manifest(path)] for name, path in prepared.manifests.items()}
    assert written == {
        "train": [f"clip/{n}" for n in range(5)],
        "validation": ["clip/5"],
        "test": ["clip/6", "clip/7", "clip/8"],
    }
    assert prepared.quarantined == {"duplicate_id": 1}  # or its clip would overwrite the one in train
    with pytest.raises(UserError, match="split 'test': no usable clip; quarantined: 1 missing_file"):
        prepare({"train": rows, "test": [Utterance("no", "/none.wav", "ciao")]}, tmp_path, PrepareConfig())


@pytest.mark.medium
def test_long_clips_are_cut_at_their_segments(tmp_path: Path) -> None:
    whole = noise(70.0)
    segments = [{"start": 10.0 * n, "end": 10.0 * n + 8, "text": f"frase {n}"} for n in range(7)]
    long = Utterance("long", encode_flac(whole), "tutto", duration_s=70.0, meta={"segments": segments})
    short = Utterance("short", encode_flac(noise(9.0)), "ciao", duration_s=9.0, meta={"segments": segments[:1]})
    bare = Utterance("bare", encode_flac(noise(31.0)), "senza tempi", duration_s=31.0)
    wrong = Utterance("wrong", encode_flac(noise(9.0)), "ciao", meta={"segments": [{"start": 1}]})
    rows = [*clips(12), long, short, bare, wrong]
    kept = prepare(rows, tmp_path / "kept", CONFIG)
    assert kept.quarantined == {"too_long": 2}
    prepared = prepare(rows, tmp_path / "cut", CONFIG.model_copy(update={"long_clips": "split"}))
    assert prepared.quarantined == {"bad_segments": 1, "too_long": 1}
    written = {u.id: u for path in prepared.manifests.values() for u in read_manifest(path)}
    assert [written[f"long#{n}"].text for n in range(3)] == [
        "frase 0 frase 1 frase 2",
        "frase 3 frase 4 frase 5",
        "frase 6",
    ]
    assert "long" not in written and "short" in written
    assert np.allclose(decode(str(written["long#2"].audio)), whole[60 * SAMPLE_RATE : 68 * SAMPLE_RATE], atol=2e-5)


@pytest.mark.medium
def test_rows_are_read_as_they_are_decoded(tmp_path: Path) -> None:
    """The audio of a source may be larger than memory."""
    most = ROWS * (2 * THREADS + 1)  # are read ahead
    count = 2 * most
    done: list[int] = []
    ahead_of_us: list[int] = []

    def rows() -> Iterator[Utterance]:
        for n in range(count):
            ahead_of_us.append(n - len(done))
            yield Utterance(f"{n}", second, f"parola {n}")

    second = encode_flac(noise(0.5))
    prepare(rows(), tmp_path, CONFIG, lambda now, total: done.append(now) if total is None else None)
    assert done == list(range(1, count + 1))
    assert max(ahead_of_us) <= most


@pytest.mark.medium
def test_each_clip_was_a_request_to_the_sandbox(tmp_path: Path, trips: list[int]) -> None:
    prepare(clips(2 * ROWS), tmp_path, CONFIG)
    assert sum(trips) == 2 * ROWS and len(trips) < ROWS / 4


@pytest.mark.medium
def test_a_full_disk_is_named(english_clips: list[Utterance], tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        fill(disk, leave=16384)
        with pytest.raises(UserError, match="no space left") as caught:
            prepare(english_clips, disk / "out", PrepareConfig(min_test_clips=1))
        assert caught.value.message.startswith(str(disk / "out"))


@pytest.mark.medium
def test_a_row_that_crashes_the_codec_loses_that_row_only(tmp_path: Path, crashing: bytes) -> None:
    rows = clips(12)
    prepared = prepare([*rows[:6], Utterance("crash", crashing, "ciao"), *rows[6:]], tmp_path, CONFIG)
    assert sum(prepared.clips.values()) == 12
    assert prepared.quarantined == {"decoder_died": 1}
