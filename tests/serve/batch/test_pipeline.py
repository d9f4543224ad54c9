from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import ray
import ray.data

from asr.errors import DataError, UserError
from asr.inference.engine import Engine
from asr.inference.pipeline import DecodingOptions
from asr.transcript import Transcript
from serve.batch.pipeline import Workforce, _hush, describe, transcribe
from serve.batch.window_task import RecordingTask
from serve.config import ServeConfig
from serve.replica.engine_loader import load_engine
from tests.serve.fakes import FakeEngine, voice

CONFIG = ServeConfig(model="fake")


def of_nodes(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> Workforce:
    """What is made of a cluster of these nodes that somebody else started."""
    totals = {kind: sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU")}
    monkeypatch.setattr(ray, "cluster_resources", lambda: totals)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])
    return Workforce.of_cluster(shared=True)


def test_every_gpu_has_an_actor_and_else_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = of_nodes(monkeypatch, {"CPU": 16, "GPU": 2}, {"CPU": 8})
    assert (gpus.decoders, gpus.gpu, gpus.options) == (2, True, {"num_cpus": 0.5, "num_gpus": 1})
    cpus = of_nodes(monkeypatch, {"CPU": 4}, {"CPU": 8}, {"CPU": 0})
    assert (cpus.decoders, cpus.threads, cpus.gpu) == (1 + 2, 3, False)


@pytest.mark.parametrize("nodes", [[1], [2], [4, 4], [3, 64], [1, 1]])
def test_actors_leave_room_for_those_that_read(monkeypatch: pytest.MonkeyPatch, nodes: list[int]) -> None:
    found = of_nodes(monkeypatch, *({"CPU": count} for count in nodes))
    assert found.decoders * found.options["num_cpus"] + 0.25 <= sum(nodes)
    found.require()


@pytest.mark.slow
def test_recordings_of_all_lengths_share_batches_and_come_back_whole(ray_cluster: None, tmp_path: Path) -> None:
    lengths = {0: 70.0, 1: 3.0, 2: 4.0, 3: 5.0}
    for number, seconds in lengths.items():
        (tmp_path / f"{number}.flac").write_bytes(voice(seconds))
    (tmp_path / "4.flac").write_bytes(b"not audio")

    def make_engine(config: ServeConfig) -> Engine:
        return FakeEngine(config, tmp_path)

    workforce = Workforce(1, 1, False, 2)
    model = describe(CONFIG, make_engine, workforce)
    assert model.name == "fake"
    paths = [tmp_path / f"{number}.flac" for number in range(5)]
    tasks = [(RecordingTask(i, str(path), DecodingOptions("en")), path.stat().st_size) for i, path in enumerate(paths)]
    found = list(transcribe(tasks, model, CONFIG, make_engine, workforce))
    assert sorted((one.number, one.position) for one in found) == [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
        (2, 0),
        (3, 0),
        (4, 0),
    ]
    for one in found:
        if one.number == 4:
            assert isinstance(one.content, DataError) and one.content.reason == "not_audio"
        else:
            assert isinstance(one.content, Transcript)
            assert float(one.content.text) == pytest.approx((one.window.end - one.window.start) / 16_000, abs=1.0)
    batches = [
        [clip["seconds"] for clip in json.loads(line)] for line in (tmp_path / "batches").read_text().splitlines()
    ]
    assert any(len(batch) >= 3 for batch in batches)


def test_a_model_that_is_not_there_is_a_persons_mistake(ray_cluster: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere") as caught:
        describe(ServeConfig(model=f"{tmp_path}/nowhere"), load_engine, Workforce(1, 1, False, 2))
    assert type(caught.value) is UserError


def test_warnings_of_the_calling_program_were_silenced_with_ray_datas_advice(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("ray.data")
    mine = logging.StreamHandler()
    logger.addHandler(mine)
    logger.addHandler(caplog.handler)  # as pytest does where a logger does not propagate
    try:
        _hush()
        assert mine.level == caplog.handler.level == logging.NOTSET
        assert {handler.level for handler in logger.handlers if handler.name == "console"} == {logging.ERROR}
    finally:
        logger.removeHandler(mine)
        logger.removeHandler(caplog.handler)
