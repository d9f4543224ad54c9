from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from asr.audio.decode import decode
from asr.data.sources import SourceConfig, is_stream
from asr.errors import UserError
from asr.io.storage import join
from asr.utterance import Quarantined, Utterance
from tests.asr.data.sources.clips import assert_same_speech, audio, good, message, read, write_audio

pytestmark = pytest.mark.usefixtures("no_hub")


def dataset(clips: list[Utterance], kind: str = "mp3") -> datasets.Dataset:
    """As people make them: an Audio column that decodes when it is asked, here through a package we do not have."""
    cells = [{"bytes": audio(clip, kind), "path": f"{clip.id}.{kind}"} for clip in clips]
    columns = {"audio": cells, "sentence": [clip.text for clip in clips], "locale": ["en-US"] * len(clips)}
    return datasets.Dataset.from_dict(columns).cast_column("audio", datasets.Audio(sampling_rate=48_000))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, clips: list[Utterance]) -> Path:
    """A folder as it lies on the hub: Parquet files whose names tell the split."""
    folder = tmp_path_factory.mktemp("owner") / "name"
    for split, part in {"train": clips, "test": clips[:1]}.items():
        (folder / "data").mkdir(parents=True, exist_ok=True)
        dataset(part).to_parquet(folder / f"data/{split}-00000-of-00001.parquet")
    return folder


@pytest.mark.medium
@pytest.mark.parametrize("streaming", [False, True])
def test_what_lies_on_the_hub(repository: Path, clips: list[Utterance], streaming: bool) -> None:
    source = f"hf:{repository}"
    found = good(read(source, split="train", streaming=streaming))
    assert_same_speech(found, clips)
    assert [row.id for row in found] == [f"train:{n}" for n in range(5)]
    assert {row.language for row in found} == {"en"}
    assert {type(row.audio) for row in found} == {bytes if streaming else str}
    assert is_stream(SourceConfig(source=source, streaming=streaming)) is streaming
    assert "its splits are" in message(source, streaming=streaming)
    assert "trian" in message(source, split="trian", streaming=streaming)
    assert "nothere" in message(source, split="train", config="nothere", streaming=streaming)


@pytest.mark.medium
def test_parts_of_splits(repository: Path, clips: list[Utterance]) -> None:
    found = read(f"hf:{repository}", split="train[1:3]+test")
    assert_same_speech(found[:2], clips[1:3])
    assert_same_speech(found[2:], clips[:1])
    assert [row.id for row in found] == ["train:1", "train:2", "test:0"]


def test_a_name_that_nobody_has() -> None:
    assert "hf:owner/nothing" in message("hf:owner/nothing", split="train")
    assert "hf:owner/nothing" in message("hf:owner/nothing", split="train", streaming=True)


@pytest.mark.medium
def test_saved_to_disk(
    tmp_path: Path, clips: list[Utterance], place: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "DEFAULT_MAX_BATCH_SIZE", 2)  # so that there are several record batches
    saved = datasets.DatasetDict({"train": dataset(clips, "g722"), "test": dataset(clips[:1])})
    saved.save_to_disk(tmp_path / "set", num_shards={"train": 2, "test": 1})
    address = place(tmp_path / "set")
    found = good(read(address, split="train"))
    assert_same_speech(found, clips)
    assert [row.id for row in found] == [f"train:{n}" for n in range(5)]
    assert [row.audio for row in read(join(address, "train"))] == [row.audio for row in found]
    assert "its splits are train, test" in message(address)
    assert "leave streaming out" in message(address, split="train", streaming=True, format="huggingface")


@pytest.mark.medium
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # by datasets, of its metadata.csv
def test_audio_in_files_of_its_own(tmp_path: Path, clips: list[Utterance]) -> None:
    """An audiofolder read by ``datasets``: the rows hold paths."""
    names = write_audio(tmp_path / "train", clips, "wav")
    lines = [f'{name},"{clip.text}"\n' for name, clip in zip(names, clips, strict=True)]
    (tmp_path / "train/metadata.csv").write_text("file_name,text\n" + "".join(lines))
    loaded = good(read(f"hf:{tmp_path}", split="train"))
    streamed = good(read(f"hf:{tmp_path}", split="train", streaming=True))
    texts = {clip.text: clip for clip in clips}
    for found in (loaded, streamed):
        assert_same_speech(found, [texts[row.text] for row in found])
        assert len(found) == 5
    gc.collect()  # what datasets left open is to be found here, not in a later test


@pytest.mark.medium
def test_rows_without_audio(tmp_path: Path, clips: list[Utterance]) -> None:
    cells = [{"bytes": audio(clips[0], "wav"), "path": None}, None]
    data = datasets.Dataset.from_dict({"audio": cells, "text": ["uno", "due"]})
    data.save_to_disk(tmp_path / "saved")
    first, second = read(str(tmp_path / "saved"))
    assert isinstance(first, Utterance)
    assert len(decode(first.audio)) == len(decode(clips[0].audio))
    assert isinstance(second, Quarantined)
    assert second.reason == "missing_audio"


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../secret.arrow", "s3://b/x.arrow?endpoint_override=127.0.0.1:{port}&scheme=http", 7, None],
)
def test_the_index_of_a_saved_data_set_named_hosts_that_got_our_credentials(
    tmp_path: Path, clips: list[Utterance], name: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files were opened wherever they were said to lie, with the keys of whoever read it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    dataset(clips[:1]).save_to_disk(tmp_path / "set")
    (tmp_path / "secret.arrow").write_bytes(next((tmp_path / "set").glob("*.arrow")).read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        hostile = name.format(port=listener.getsockname()[1]) if isinstance(name, str) else name
        state = json.loads((tmp_path / "set/state.json").read_text())
        (tmp_path / "set/state.json").write_text(json.dumps(state | {"_data_files": [{"filename": hostile}]}))
        assert "state.json" in message(str(tmp_path / "set"))
        (tmp_path / "several").mkdir()
        (tmp_path / "several/dataset_dict.json").write_text(json.dumps({"splits": [hostile]}))
        assert "no name of a split" in message(str(tmp_path / "several")) or name in (7, None)
        with pytest.raises(BlockingIOError):
            listener.accept()


ELSEWHERE = (
    "{folder}/secret.jsonl",
    "../secret.jsonl",
    "x/../../secret.jsonl",
    "file://{folder}/secret.jsonl",
    "file:{folder}/secret.jsonl",
    "local:{folder}/secret.jsonl",
    "http://{host}/a.jsonl",
    "s3://b/a.jsonl",
    "hf://datasets/other/name/a.jsonl",
    "zip://a.jsonl::http://{host}/a.zip",
    "a b::http://{host}/a.jsonl",
)


@pytest.mark.medium
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("path", ELSEWHERE)
@pytest.mark.parametrize("key", ["data_files", "data_dir"])
def test_a_readme_had_any_file_read_and_any_host_called(tmp_path: Path, path: str, key: str, streaming: bool) -> None:
    """Offline too: `configs: data_files: path: /home/me/private.jsonl` became rows, `http://...` was fetched."""
    (tmp_path / "set/x").mkdir(parents=True)
    (tmp_path / "set/a.jsonl").write_text('{"audio": "a.wav", "text": "own"}\n')
    (tmp_path / "secret.jsonl").write_text('{"audio": "a.wav", "text": "SECRET"}\n')
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        named = path.format(folder=tmp_path, host=f"127.0.0.1:{listener.getsockname()[1]}")
        named = named if key == "data_files" else named.removesuffix("/secret.jsonl").removesuffix("/a.jsonl")
        for index in ("README.md", ".huggingface.yaml"):
            said = json.dumps([{"config_name": "default", key: named}])
            (tmp_path / "set" / index).write_text(
                f"---\nconfigs: {said}\n---\n".strip("-\n" if index[0] == "." else "")
            )
            found = message(f"hf:{tmp_path}/set", split="train", streaming=streaming)
            assert "is no file of" in found or (key == "data_dir" and "contain any data files" in found)
            assert message(f"{tmp_path}/set", format="huggingface", split="train", streaming=streaming) != ""
            (tmp_path / "set" / index).unlink()
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("path", ["a.jsonl", "*.jsonl", "./a.jsonl", "{folder}/set/a.jsonl"])
def test_a_readme_may_name_its_own_files(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.jsonl").write_text('{"audio": "a.wav", "text": "own"}\n')
    said = json.dumps([{"config_name": "default", "data_files": path.format(folder=tmp_path)}])
    (tmp_path / "set/README.md").write_text(f"---\nconfigs: {said}\n---\n")
    monkeypatch.chdir(tmp_path)
    for name in (f"hf:{tmp_path}/set", "hf:set", "hf:../" + tmp_path.name + "/set"):
        assert len(read(name, split="train", streaming=True)) == 1


def test_a_readme_that_is_a_pipe_hung_for_ever(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"audio": "a.wav", "text": "own"}\n')
    os.mkfifo(tmp_path / ".huggingface.yaml")
    assert "no regular file" in message(f"hf:{tmp_path}", split="train")


@pytest.mark.parametrize("index", ["[" * 100_000, "{}", '{"_data_files": 7}', '{"_data_files": ["x"]}', "[]", "\0"])
def test_an_index_that_is_none_is_one_line(tmp_path: Path, index: str) -> None:
    for name in ("state.json", "dataset_dict.json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(index)
        assert name in message(str(tmp_path / name))


@pytest.mark.medium
def test_a_broken_arrow_file_is_one_line_or_rows(tmp_path: Path, clips: list[Utterance]) -> None:
    """pyarrow read outside of the file where an offset said so: the process died, or strangers' bytes were text."""
    dataset(clips[:3], "g722").save_to_disk(tmp_path)
    (path,) = tmp_path.glob("*.arrow")
    whole, chance = path.read_bytes(), random.Random(1)
    end = whole.rindex(audio(clips[0], "g722")[:100])
    for _ in range(40):
        broken = bytearray(whole)
        for at in (chance.randrange(end) for _ in range(3)):
            broken[at] = chance.randrange(256)
        path.write_bytes(broken)
        with contextlib.suppress(UserError):
            read(str(tmp_path))


def test_a_fault_in_the_middle_of_a_stream_is_one_line(tmp_path: Path) -> None:
    lines = [json.dumps({"audio": "a.wav", "text": "x"})] * 3
    (tmp_path / "train.jsonl").write_text("\n".join([*lines, "[" * 5000, "{"]))
    assert str(tmp_path) in message(f"hf:{tmp_path}", split="train", streaming=True)
    assert str(tmp_path) in message(f"hf:{tmp_path}", split="train")
