from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sam import models
from torch import Tensor, nn

from bhk.calibration.errors import CalibrationError
from bhk.calibration.inputs import SEQUENCES, WORDS, BatchInputs, SamInputs, pixel_values, random_texts, random_tokens
from bhk.pictures.prompted import synthetic
from bhk.sam.prediction.predictor import predictor_for

_KINDS = [
    models.small_sam,
    models.small_sam_hq,
    models.small_sam2,
    models.small_hf_sam,
    models.small_hf_sam_hq,
    models.small_hf_sam2,
]


@pytest.fixture(scope="module")
def inputs() -> SamInputs:
    ((picture, prompts),) = synthetic("dead-leaves", 1, 0, models.SIZE)
    return SamInputs(((picture, prompts[:2]),))


@pytest.mark.parametrize("kind", _KINDS)
def test_gradients_reach_the_first_layer_through_any_predictor(
    kind: Callable[[], nn.Module], inputs: SamInputs
) -> None:
    model = kind()
    sum(output.sum() for output in inputs.run(model, 0)).backward()  # type: ignore[union-attr]
    predictor = predictor_for(model)
    for part in (predictor.encoder, predictor.decoder):
        first = next(part.parameters())
        assert first.grad is not None
        assert first.grad.abs().sum() > 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("kind", _KINDS)
@torch.no_grad()
def test_no_graph_is_kept_without_gradients(kind: Callable[[], nn.Module], inputs: SamInputs) -> None:
    outputs = inputs.run(kind(), 0)
    assert not any(output.requires_grad for output in outputs)
    assert not torch.is_grad_enabled()


@torch.no_grad()
def test_outputs_are_masks_and_scores_of_every_prompt(inputs: SamInputs) -> None:
    outputs = inputs.run(models.small_sam(), 0)
    assert len(inputs) == 1
    side = models.SIZE // 4  # of the decoder's masks
    shapes = [(1, 1, side, side), (1, 1), (1, 3, side, side), (1, 3)]
    assert [tuple(output.shape) for output in outputs] == 2 * shapes
    assert all(output.min() >= 0 and output.max() <= 1 for output in outputs[::2])


@torch.no_grad()
def test_masks_are_those_of_the_predictor(inputs: SamInputs) -> None:
    model = models.small_sam()
    outputs = inputs.run(model, 0)
    predictor = predictor_for(model)
    predictor.set_image(inputs.asked[0][0])
    _, scores = predictor.predict(inputs.asked[0][1][1], multimask=True)
    assert outputs[7][0].numpy() == pytest.approx(scores)


def test_a_model_that_cannot_be_asked_says_on_which_sample_it_fails(inputs: SamInputs) -> None:
    model: Any = models.small_sam()
    model.mask_decoder.iou_prediction_head = nn.Linear(3, 3)
    with pytest.raises(CalibrationError, match=r"Sam fails on sample 0 \(RuntimeError: .*mat1.*\); give samples"):
        inputs.run(model, 0)
    assert not model.image_encoder._forward_pre_hooks
    assert not model.mask_decoder._forward_hooks


@dataclass
class _Answer:
    first: Tensor
    second: dict[str, Any]


class _Adder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0]))

    @torch.no_grad()
    def forward(self, a: Tensor, b: Tensor | float = 0.0) -> _Answer:
        total = nn.Identity()(a * self.weight) + b
        return _Answer(total, {"again": total, "ids": torch.arange(3), "parts": [(total - 1,), None]})


@pytest.mark.parametrize(
    ("batch", "total"),
    [
        (torch.tensor([1.0]), 2.0),
        ((torch.tensor([1.0]), 5.0), 7.0),
        ([torch.tensor([1.0]), torch.tensor([5.0])], 7.0),
        ({"b": 5.0, "a": torch.tensor([1.0])}, 7.0),
        (lambda model: model(torch.tensor([3.0])), 6.0),
    ],
    ids=["tensor", "tuple", "list", "mapping", "callable"],
)
@torch.no_grad()
def test_outputs_are_all_floating_tensors_each_once(batch: Any, total: float) -> None:
    assert [output.item() for output in BatchInputs((batch,)).run(_Adder(), 0)] == [total, total - 1]


def test_gradients_pass_decorators_of_any_module() -> None:
    class Decorated(nn.Sequential):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    (output,) = BatchInputs((torch.ones(1, 3),)).run(Decorated(nn.Linear(3, 2)), 0)
    assert output.requires_grad


def test_samples_of_other_kinds_are_refused() -> None:
    with pytest.raises(CalibrationError, match="sample 1 is int; expected a tensor"):
        BatchInputs((torch.ones(1), 5)).run(_Adder(), 1)  # type: ignore[arg-type]


def test_samples_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CalibrationError, match=r"Linear fails on sample 0 \(RuntimeError"):
        BatchInputs((torch.ones(2, 4),)).run(nn.Linear(3, 2), 0)


def test_outputs_without_floating_tensors_are_refused() -> None:
    with pytest.raises(CalibrationError, match="Identity returns Tensor for sample 0; expected floating-point tensors"):
        BatchInputs((torch.arange(3),)).run(nn.Identity(), 0)


def test_random_tokens() -> None:
    batches = random_tokens(50, 3, 17, 0)
    assert len(batches) == 3
    tokens = torch.stack([batch["input_ids"] for batch in batches])
    assert (tokens.shape, tokens.dtype) == ((3, SEQUENCES, 17), torch.int64)
    assert (int(tokens.min()), int(tokens.max())) == (0, 49)
    assert all(batch["attention_mask"].all() for batch in batches)
    assert torch.equal(random_tokens(50, 1, 17, 0)[0]["input_ids"], tokens[0])
    assert not torch.equal(random_tokens(50, 1, 17, 1)[0]["input_ids"], tokens[0])


def test_pixel_values_are_normalised() -> None:
    pictures = [picture for picture, _ in synthetic("noise", 2, 0, 64)]
    values = pixel_values(pictures, 20, 31)
    assert [value.shape for value in values] == [(1, 3, 20, 31)] * 2
    assert values[0].mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.07, 0.2, 0.42], abs=0.05)


@pytest.mark.parametrize("begin", [49406, 0, None])
@pytest.mark.parametrize("end", [49407, 2, None, [7, 9]])
def test_random_texts_for_any_tokens_of_begin_and_end(begin: int | None, end: int | list[int] | None) -> None:
    config = SimpleNamespace(bos_token_id=begin, eos_token_id=end, vocab_size=49408, max_position_embeddings=32)
    for text in random_texts(config, 3, (0, 1)):
        tokens, words = text["input_ids"][0], int(text["attention_mask"].sum()) - 2
        assert 1 <= words <= WORDS
        assert tokens[0] == (49406 if begin is None else begin)
        assert (tokens[words + 1 :] == (end if isinstance(end, int) else 49407)).all()
        assert 0 <= tokens.min() <= tokens.max() < 49408
