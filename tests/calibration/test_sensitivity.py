from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bhk.calibration.errors import CalibrationError
from bhk.calibration.sensitivity import Sensitivity, measure
from bhk.codec.feedback import Feedback, feedback_from


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.head = nn.Linear(16, 4)
        self.unused = nn.Linear(16, 16)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.head(x)


def _inputs() -> Tensor:
    return torch.randn(64, 16, generator=torch.Generator().manual_seed(1))


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.ndim == 2}


def _none(name: str) -> Feedback | None:
    return None


def _measured(model: Model, seeds: int = 60) -> dict[str, Sensitivity]:
    found = [measure(model, _weights(model), _none, lambda: (model(_inputs()),), seed) for seed in range(seeds)]
    return {
        name: Sensitivity(*(sum(getattr(one[name], field) for one in found) / seeds for field in ("plain", "fed")))
        for name in found[0]
    }


def test_sensitivity_is_what_small_errors_do_to_the_outputs() -> None:
    model = Model()
    found = _measured(model)
    assert sorted(found) == ["blocks.0.weight", "blocks.1.weight", "blocks.2.weight", "head.weight"]
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        before = model(_inputs())
        for name, sensitivity in found.items():
            weight = model.get_parameter(name)
            changes = []
            for _ in range(60):
                noise = 1e-3 * torch.randn(weight.shape, generator=generator)
                weight.add_(noise)
                changes.append(float((model(_inputs()) - before).square().sum() / before.square().sum()))
                weight.sub_(noise)
            made = sum(changes) / len(changes) / 1e-6 / weight.numel()
            assert sensitivity.plain == pytest.approx(made, rel=0.25)
            assert sensitivity.fed == sensitivity.plain


def test_errors_that_are_fed_forward_move_the_outputs_less() -> None:
    model, inputs = Model(), _inputs() @ torch.randn(16, 16, generator=torch.Generator().manual_seed(5)) ** 3
    feedback = feedback_from(inputs.T @ inputs)
    assert feedback is not None
    found = measure(
        model,
        _weights(model),
        lambda name: feedback if name == "blocks.0.weight" else None,
        lambda: (model(inputs),),
        0,
    )
    assert found["blocks.0.weight"].fed < 0.7 * found["blocks.0.weight"].plain
    assert found["head.weight"].fed == found["head.weight"].plain


def test_the_model_is_as_it_was_afterwards() -> None:
    model = Model()
    model.unused.weight.requires_grad_(False)
    before = {
        name: (parameter.requires_grad, parameter.detach().clone()) for name, parameter in model.named_parameters()
    }
    measure(model, _weights(model), _none, lambda: (model(_inputs()),), 0)
    for name, parameter in model.named_parameters():
        required, values = before[name]
        assert parameter.requires_grad == required
        assert parameter.grad is None
        assert torch.equal(parameter, values)
    assert all("forward" not in vars(block) for block in model.blocks)


def test_equal_seeds_give_equal_figures() -> None:
    model = Model()
    one, same, other = (measure(model, _weights(model), _none, lambda: (model(_inputs()),), seed) for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_outputs_that_are_no_numbers() -> None:
    model = Model()
    with pytest.raises(CalibrationError, match="returns NaN or infinity"):
        measure(model, _weights(model), _none, lambda: (model(_inputs()) / 0,), 0)


def test_outputs_that_depend_on_nothing() -> None:
    model = Model()
    with pytest.raises(CalibrationError, match="do not depend on its weights"):
        measure(model, _weights(model), _none, lambda: (torch.zeros(3),), 0)


def test_a_model_without_gradients() -> None:
    model = Model()

    def run() -> tuple[Tensor, ...]:
        outputs = model(_inputs()).exp()
        outputs.add_(1)
        return (outputs,)

    with pytest.raises(CalibrationError, match=r'has no gradients \(.*\); use steps="table" instead'):
        measure(model, _weights(model), _none, run, 0)


def test_a_block_in_two_lists_and_one_with_a_forward_of_its_own() -> None:
    model = Model()
    model.again = model.blocks  # type: ignore[assignment]
    model.blocks[1].forward = own = lambda x: torch.nn.functional.linear(x, model.blocks[1].weight)  # type: ignore[method-assign, assignment, arg-type]
    measure(model, _weights(model), _none, lambda: (model(_inputs()),), 0)
    assert model.blocks[1].forward is own
    assert "forward" not in vars(model.blocks[0])
