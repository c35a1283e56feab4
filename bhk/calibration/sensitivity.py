"""How much a model's outputs change when its weights do."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bhk.base.errors import option
from bhk.calibration.errors import CalibrationError
from bhk.codec.feedback import Feedback


class Sensitivity(msgspec.Struct, frozen=True):
    """Squared change of the outputs, relative to their power, per unit of squared error of a tensor's weights.

    Attributes:
        plain: if the errors are independent, as those of plain rounding are.
        fed: if later columns compensate them; equal to `plain` without feedback.
    """

    plain: float
    fed: float


def measure(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    feedback: Callable[[str], Feedback | None],
    run: Callable[[], Sequence[Tensor]],
    seed: int,
    measured: Callable[[int], None] = lambda done: None,
) -> dict[str, Sensitivity]:
    """Measure the sensitivity of weights on one sample, from the gradients of a random projection of the outputs.

    The expected square of such a gradient is the squared length of the outputs' derivative (Hutchinson 1990). A gradient has
    as many values as the tensor, so a few samples suffice. Errors with feedback are not white; the gradient is projected on
    the shape that they will have.

    Args:
        model: in eval mode; its blocks are computed twice to save the memory of their activations.
        weights: name -> parameter of the model.
        feedback: returns the feedback of a weight by its name, or None.
        run: runs the model on the sample, with gradients, and returns its outputs.
        seed: for drawing the projection.
        measured: called after each weight with how many have been measured.

    Raises:
        CalibrationError: the outputs are not finite, or do not depend on the weights.
    """
    found: dict[str, Sensitivity] = {}

    def take(name: str, weight: Tensor) -> None:
        gradient, weight.grad = weight.grad, None
        assert gradient is not None
        plain = float(gradient.float().square().sum())
        if not math.isfinite(plain):
            raise CalibrationError(
                f"the gradient of {name} is not finite; check the model, or convert without {option('calibration')}"
            )
        fed = feedback(name)
        change = plain if fed is None else fed.output_change(gradient.flatten(1))
        found[name] = Sensitivity(plain / gradient.numel(), change / gradient.numel())
        measured(len(found))

    with _only_gradients_of(model, weights.values()), _recomputed_blocks(model), torch.enable_grad():
        hooks: list[Any] = [
            weight.register_post_accumulate_grad_hook(partial(take, name))  # type: ignore[no-untyped-call]
            for name, weight in weights.items()
        ]
        try:
            projection = _projected(run(), seed)
            _backward(projection)
        finally:
            for hook in hooks:
                hook.remove()
    return found


def _backward(projection: Tensor) -> None:
    try:
        projection.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:  # an operation without derivative, inputs changed in place, out of memory
        reason = str(error).partition("\n")[0]
        raise CalibrationError(
            f"the model has no gradients ({reason}); use {option('steps', 'table')} instead"
        ) from error


def _projected(outputs: Sequence[Tensor], seed: int) -> Tensor:
    """Return the inner product of the outputs with white noise, each output scaled to the same expected square."""
    outputs = [output for output in outputs if output.requires_grad]
    if not outputs:
        raise CalibrationError("the model's outputs do not depend on its weights, or were computed without gradients")
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros((), device=outputs[0].device)
    for output in outputs:
        scale = float(output.detach().float().square().sum())
        if not math.isfinite(scale):
            raise CalibrationError(
                f"the model returns NaN or infinity; check the model, or convert without {option('calibration')}"
            )
        noise = torch.randn(output.shape, generator=generator).to(output.device)
        total = total + (output.float() * noise).sum() / math.sqrt(max(scale, torch.finfo(torch.float32).tiny))
    return total / math.sqrt(len(outputs))


@contextlib.contextmanager
def _only_gradients_of(model: nn.Module, weights: Iterable[Tensor]) -> Iterator[None]:
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    wanted = {id(weight) for weight in weights}
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in wanted)
    try:
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)
            parameter.grad = None


@contextlib.contextmanager
def _recomputed_blocks(model: nn.Module) -> Iterator[None]:
    """Let each block of the model keep only its inputs, and recompute its activations for the gradients.

    A SAM-B with 1,024-pixel pictures then takes 4.5 GB in all.
    """
    most = sum(parameter.numel() for parameter in model.parameters()) / 2
    before = {block: vars(block).get("forward") for block in _blocks(model, most)}
    for block in before:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for block, own in before.items():
            del block.forward
            if own is not None:
                block.forward = own


def _blocks(module: nn.Module, most: float) -> Iterator[nn.Module]:
    """Yield the elements of the module lists that hold most of the weights, and the modules beside those lists."""
    for child in module.children():
        weights = sum(parameter.numel() for parameter in child.parameters())
        if isinstance(child, nn.ModuleList) or (weights > most and any(True for _ in child.children())):
            yield from child.children() if isinstance(child, nn.ModuleList) else _blocks(child, most)
        else:
            yield child
