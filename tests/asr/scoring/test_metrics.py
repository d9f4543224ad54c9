import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from evaluate import Metric

from asr.scoring.metrics import load
from asr.scoring.metrics.cer.cer import Cer
from asr.scoring.metrics.wer.wer import Wer

ROOT = Path(__file__).parents[3]

LOAD_BOTH = """
import json, socket, sys
socket.socket.connect = None  # any attempt to reach a hub is a TypeError
import evaluate
metrics = [evaluate.load(path) for path in sys.argv[1:]]
print(json.dumps([one.compute(predictions=["il gatto"], references=["un gatto nero"]) for one in metrics]))
"""


@pytest.mark.slow
def test_evaluate_loads_both_with_no_network_and_an_empty_cache(tmp_path: Path) -> None:
    offline = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
    paths = [str(ROOT / "asr/scoring/metrics" / name) for name in ("wer", "cer")]
    done = subprocess.run(
        [sys.executable, "-c", LOAD_BOTH, *paths],
        env={**os.environ, **offline, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    wer, cer = json.loads(done.stdout.splitlines()[-1])
    counts = {"hits": 1, "substitutions": 1, "deletions": 1, "insertions": 0, "reference_length": 3}
    assert wer == {"wer": pytest.approx(2 / 3), **counts}
    counts = {"hits": 6, "substitutions": 2, "deletions": 5, "insertions": 0, "reference_length": 13}
    assert cer == {"cer": pytest.approx(7 / 13), **counts}


@pytest.mark.parametrize(("metric", "name", "units"), [(Wer, "wer", 2), (Cer, "cer", 5)])
def test_an_empty_reference_makes_insertions(metric: type[Metric], name: str, units: int, tmp_path: Path) -> None:
    result = metric(keep_in_memory=True, cache_dir=str(tmp_path)).compute(predictions=["eh sì"], references=[""])
    assert result == {
        name: float(units),
        "hits": 0,
        "substitutions": 0,
        "deletions": 0,
        "insertions": units,
        "reference_length": 0,
    }


@pytest.mark.parametrize(("metric", "name"), [(Wer, "wer"), (Cer, "cer")])
def test_counts_of_shards_add_up(metric: type[Metric], name: str, tmp_path: Path) -> None:
    references, predictions = ["uno due tre", "quattro", ""], ["uno tre", "quatro cinque", "sei"]
    module = metric(keep_in_memory=True, cache_dir=str(tmp_path))
    whole = module.compute(predictions=predictions, references=references)
    shards = [module.compute(predictions=[p], references=[r]) for p, r in zip(predictions, references, strict=True)]
    for key in set(whole) - {name}:
        assert whole[key] == sum(shard[key] for shard in shards)


def test_texts_are_compared_as_they_are_unless_a_normaliser_is_named(tmp_path: Path) -> None:
    module = Wer(keep_in_memory=True, cache_dir=str(tmp_path))
    texts = {"predictions": ["buongiorno anna"], "references": ["Buongiorno, Anna."]}
    assert module.compute(**texts)["wer"] == 1.0
    told = module.compute(**texts, normaliser="normalised", language="it", interval=True)
    assert (told["wer"], told["low"], told["high"]) == (0.0, 0.0, 0.0)


def test_loading_needs_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/proc/nowhere")
    with load("cer") as metric:
        assert metric.compute(predictions=["ab"], references=["abc"])["cer"] == pytest.approx(1 / 3)
