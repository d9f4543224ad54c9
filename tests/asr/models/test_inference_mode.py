import inspect

import torch

from asr.models.inference_mode import inference_mode


@inference_mode
def doubled(weight: torch.Tensor, *, times: int = 1) -> torch.Tensor:
    """Return it doubled."""
    return 2 * times * weight


def test_what_is_computed_takes_no_gradient() -> None:
    weight = torch.ones(2, requires_grad=True)
    found = doubled(weight, times=3)
    assert found.tolist() == [6.0, 6.0]
    assert found.is_inference() and not found.requires_grad
    assert not torch.is_inference_mode_enabled()


def test_a_function_keeps_its_name_and_what_it_takes() -> None:
    assert (doubled.__name__, doubled.__doc__) == ("doubled", "Return it doubled.")
    assert list(inspect.signature(doubled).parameters) == ["weight", "times"]
