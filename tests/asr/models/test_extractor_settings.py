from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asr.models.extractor_settings import require_sane


def write(folder: Path, name: str = "preprocessor_config.json", **settings: Any) -> Path:
    usual = {"feature_size": 80, "n_fft": 400, "hop_length": 160, "chunk_length": 30, "padding_value": 0.0}
    (folder / name).write_text(json.dumps(usual | settings))
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {"feature_size": 160, "n_fft": 512, "win_length": 400.0, "n_samples": 480_000, "do_normalize": True},
        {"feature_size": 1, "chunk_length": None, "mel_filters": [[0.0, 0.025], [0.0, 0.01]]},
        {"melspec_kwargs": {"n_mels": 80, "n_fft": 512}},
    ],
)
def test_what_was_published_is_accepted(tmp_path: Path, settings: dict[str, Any]) -> None:
    require_sane(write(tmp_path, **settings))


@pytest.mark.parametrize("value", [10**9, 1e300, float("nan"), float("inf"), -1, 0, "80", True, [10**9], 10**4000])
@pytest.mark.parametrize("name", ["feature_size", "num_mel_bins", "n_fft", "win_length", "hop_length", "chunk_length"])
def test_a_number_that_ate_all_memory_is_refused_by_name(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^preprocessor_config\.json: its {name} is [^\n]{{1,30}}$"):
        require_sane(write(tmp_path, **{name: value}))


@pytest.mark.parametrize("settings", [{"melspec_kwargs": {"n_mels": 10**9}}, {"whatever": -(10**9)}, {"a": [1, 1e99]}])
def test_a_number_is_found_wherever_it_stands(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"n_mels|whatever|a"):
        require_sane(write(tmp_path, **settings))


def test_the_other_file_that_transformers_reads_is_read_too(tmp_path: Path) -> None:
    name = "processor_config.json"
    require_sane(write(tmp_path, name, tokenizer={"model_max_length": 10**30}, feature_extractor={"n_fft": 400}))
    with pytest.raises(ValueError, match=f"{name}: its n_fft is 1000000000"):
        require_sane(write(tmp_path, name, feature_extractor={"n_fft": 10**9}))


def test_a_file_nested_without_end_is_a_value_error_and_a_missing_one_is_transformers_matter(tmp_path: Path) -> None:
    require_sane(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        require_sane(tmp_path)
