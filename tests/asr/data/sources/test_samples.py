from __future__ import annotations

from typing import Any

import pytest

from asr.data.sources.config import SourceConfig
from asr.data.sources.samples import Member, Samples, split_name
from asr.errors import UserError
from asr.utterance import Quarantined, Utterance


def member(name: str, text: bytes = b"said") -> Member:
    key, ending = split_name(name)
    return Member(key, ending, name, 512, 9, text)


def rows(*names: str, cut: str = "", **columns: Any) -> list[tuple[str, str]]:
    samples = Samples(SourceConfig(source="a.tar", columns=columns), "a.tar")
    found = samples.rows([member(name, b"{}" if name.endswith("json") else b"said") for name in names], cut)
    return [(row.id, row.text if isinstance(row, Utterance) else row.reason) for row in found]


def test_the_first_dot_ends_a_name() -> None:
    assert rows("x/a.wav", "x/a.txt", "x/a.transcript.txt") == [("x/a", "said")]
    assert rows("./a.far.wav", "a.near.wav", "a.txt", audio="near.wav") == [("a", "said")]
    assert rows("a.0.flac", "a.1.flac", "a.0.txt", audio="1.flac", text="0.txt") == [("a", "said")]


def test_the_last_dot_does_where_each_clip_has_a_name_of_its_own() -> None:
    assert rows("t_11.02.wav", "t_11.02.txt", "t_11.30.wav", "t_11.30.txt") == [
        ("t_11.02", "said"),
        ("t_11.30", "said"),
    ]
    assert rows("t_11.02.wav", "t_11.02.txt") == [("t_11.02", "said")]
    assert rows("t.wav", "t.txt", "t.2.wav", "t.2.txt") == [("t", "said"), ("t.2", "said")]
    assert rows("t.1.2.wav", "t.1.2.txt", "t.1.3.wav", "t.1.3.txt") == [("t.1.2", "said"), ("t.1.3", "said")]


def test_one_recording_of_several_is_not_taken_by_chance() -> None:
    assert rows("a.far.wav", "a.near.wav", "a.txt") == [("a", "malformed_row")]
    assert rows("a.wav", "a.noisy.wav", "a.txt") == [("a", "said"), ("a.noisy", "no_transcript")]
    assert rows("a.wav", "a.noisy.wav", "a.txt", audio="wav") == [("a", "said")]


def test_a_second_sample_of_a_name_does_not_replace_the_first() -> None:
    samples = Samples(SourceConfig(source="a.tar"), "a.tar")
    group = [member("a.wav"), member("a.txt")]
    first, second = [*samples.rows(group), *samples.rows(group)]
    assert isinstance(first, Utterance)
    assert isinstance(second, Quarantined)
    assert (second.id, second.reason) == ("a", "malformed_row")


def test_what_is_about_the_tar_is_no_sample() -> None:
    assert rows("README.md") == rows("LICENSE") == rows("metadata.json") == []
    assert rows("a.txt") == rows("a.json") == rows("a.dss") == [("a", "missing_audio")]


def test_a_cut_costs_the_last_sample_only() -> None:
    names = ("t.1.wav", "t.1.txt", "t.2.wav", "t.2.txt")
    assert rows(*names, cut="cut") == [("t.1", "said"), ("t.2", "truncated")]
    assert rows(cut="cut") == [("a.tar", "truncated")]


def test_a_tar_without_audio_is_a_persons_matter() -> None:
    samples = Samples(SourceConfig(source="a.tar", columns={"audio": "wave"}), "a.tar")
    list(samples.rows([member("a.wav"), member("a.txt")]))
    with pytest.raises(UserError, match=r"none of its samples has \.wave, the first has \.wav, \.txt"):
        samples.require_both()


def test_a_first_sample_without_a_transcript_refused_the_tar() -> None:
    samples = Samples(SourceConfig(source="a.tar"), "a.tar")
    found = [*samples.rows([member("a.wav")]), *samples.rows([member("b.wav"), member("b.txt")])]
    samples.require_both()
    assert [row.text if isinstance(row, Utterance) else row.reason for row in found] == ["no_transcript", "said"]
    samples = Samples(SourceConfig(source="a.tar"), "a.tar")
    list(samples.rows([member("a.wav")]))
    with pytest.raises(UserError, match="no column for text"):
        samples.require_both()
