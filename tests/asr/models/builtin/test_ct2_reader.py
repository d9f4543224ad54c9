from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from asr.models.builtin.ct2_reader import read_variables, state_dict, whisper_config
from tests.asr.tiny_whisper import MULTILINGUAL, ct2_variables, random_whisper, write_model


@pytest.fixture(scope="module")
def model_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ct2") / "model.bin"
    write_model(path, ct2_variables(random_whisper()))
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_weight_comes_back_under_its_own_name(tmp_path: Path, dtype: torch.dtype) -> None:
    network = random_whisper(MULTILINGUAL, dtype)
    write_model(tmp_path / "model.bin", ct2_variables(network))
    state, expected = state_dict(read_variables(tmp_path / "model.bin")), network.state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].dtype == dtype
        assert torch.equal(state[name], value), name


def test_aliases_are_variables_like_all_others(model_bin: Path) -> None:
    variables = read_variables(model_bin)
    biases = [f"decoder/layer_{i}/ffn/linear_0/bias" for i in range(3)]
    assert all(torch.equal(variables[name], variables[biases[0]]) for name in biases), "equal, so written as aliases"
    assert torch.equal(variables["decoder/projection/weight"], variables["decoder/embeddings/weight"])


def test_the_shapes_tell_the_configuration(model_bin: Path) -> None:
    expected = random_whisper().config
    found = whisper_config(read_variables(model_bin))
    assert {name: getattr(expected, name) for name in found} == found | {"num_hidden_layers": 2}


@pytest.mark.parametrize(("dtype", "scale"), [(torch.int8, torch.ones(48)), (torch.int16, torch.tensor(1.0))])
def test_quantised_weights_are_refused(tmp_path: Path, dtype: torch.dtype, scale: torch.Tensor) -> None:
    variables = ct2_variables(random_whisper())
    name = "encoder/layer_0/self_attention/linear_0/weight"
    variables |= {name: variables[name].to(dtype), f"{name}_scale": scale}
    write_model(tmp_path / "model.bin", variables)
    with pytest.raises(UserError, match=r"quantised \(take the float16"):
        state_dict(read_variables(tmp_path / "model.bin"))


@pytest.mark.parametrize(
    "name",
    [
        "decoder/layer_0/self_attention/linear_9/weight",
        "decoder/layer_0/self_attention/layer_norm/delta",
        "encoder/rotary/weight",
        "decoder/layer_0/mixer/linear_0/weight",
    ],
)
def test_a_variable_that_whisper_has_not_is_named(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' has no place in a Whisper model"):
        state_dict({name: torch.zeros(2, 2)})


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.9, 0.99999])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, model_bin: Path, share: float) -> None:
    content = model_bin.read_bytes()
    (tmp_path / "cut.bin").write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"cut\.bin: not a CTranslate2 Whisper model, or incomplete") as caught:
        read_variables(tmp_path / "cut.bin")
    assert "\n" not in str(caught.value)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a CTranslate2 Whisper model"):
        read_variables(path)


def test_another_architecture_is_named(tmp_path: Path) -> None:
    write_model(tmp_path / "model.bin", {"a": torch.zeros(1)}, spec="TransformerSpec")
    with pytest.raises(UserError, match="specification 'TransformerSpec'"):
        read_variables(tmp_path / "model.bin")
