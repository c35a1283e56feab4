"""Masks of HyperLinear layers against those of the decoded weights, on real architectures with random weights, full size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

import bhk
from bhk.nn import HyperLinear

pytestmark = pytest.mark.full

POINTS = ((300.0, 200.0), (700.0, 500.0), (512.0, 384.0), (40.0, 700.0))
BOX = (200.0, 150.0, 800.0, 600.0)

Predict = Callable[[nn.Module], Tensor]


@pytest.fixture(autouse=True)
def _all_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(torch.multiprocessing.cpu_count())
    yield
    torch.set_num_threads(threads)


def _image() -> npt.NDArray[np.uint8]:
    """Return a picture of discs, (768, 1024, 3)."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:768, :1024]
    image = np.full((768, 1024, 3), 90, np.uint8)
    for _ in range(60):
        cx, cy, radius = generator.uniform((0, 0, 20), (1024, 768, 160))
        image[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = generator.integers(0, 256, 3)
    return image


def _of_predictor(predictor: object) -> Tensor:
    """Return the low-resolution logits of every prompt, by a predictor of the packages."""
    predictor.set_image(_image())  # type: ignore[attr-defined]
    prompts = [{"point_coords": np.array([point]), "point_labels": np.ones(1)} for point in POINTS]
    prompts += [{"box": np.array(BOX)}]
    return torch.stack(
        [torch.as_tensor(predictor.predict(**prompt, multimask_output=True)[2]) for prompt in prompts]  # type: ignore[attr-defined]
    )


def _sam(model: nn.Module) -> Tensor:
    from segment_anything import SamPredictor

    return _of_predictor(SamPredictor(model))


def _sam_hq(model: nn.Module) -> Tensor:
    from segment_anything_hq import SamPredictor

    return _of_predictor(SamPredictor(model))


def _sam2(model: nn.Module) -> Tensor:
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    return _of_predictor(SAM2ImagePredictor(model))


def _transformers(model: nn.Module) -> Tensor:
    pixels = torch.from_numpy(_image()).permute(2, 0, 1)[None] / 128.0 - 1
    pixels = nn.functional.interpolate(pixels, (1024, 1024))
    points = torch.tensor(POINTS)[None, :, None]
    with torch.no_grad():
        found: Tensor = model(pixel_values=pixels, input_points=points).pred_masks
    return found[0]


def _build_sam() -> nn.Module:
    from segment_anything import sam_model_registry

    return sam_model_registry["vit_b"]()  # type: ignore[no-any-return]


def _build_sam_hq() -> nn.Module:
    from segment_anything_hq import sam_model_registry

    return sam_model_registry["vit_tiny"]()  # type: ignore[no-any-return]


def _build_sam2() -> nn.Module:
    from sam2.build_sam import build_sam2

    return build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu")  # type: ignore[no-any-return]


def _build_transformers() -> nn.Module:
    from transformers import SamConfig, SamModel

    return SamModel(SamConfig())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("build", "predict"),
    [(_build_sam, _sam), (_build_sam_hq, _sam_hq), (_build_sam2, _sam2), (_build_transformers, _transformers)],
    ids=["SAM-B", "HQ-Tiny", "SAM2-T", "SamModel"],
)
def test_masks_are_those_of_the_decoded_weights(
    build: Callable[[], nn.Module], predict: Predict, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = build()
    for parameter in model.parameters():  # what is zero at first hides what depends on it
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    del model
    bhk.convert(tmp_path / "model.pth")
    dense = predict(bhk.load(tmp_path / "model.bhk", mode="dense"))
    hyper_model = bhk.load(tmp_path / "model.bhk")
    assert any(isinstance(module, HyperLinear) for module in hyper_model.modules())
    hyper = predict(hyper_model)
    assert (hyper - dense).norm() <= 1e-4 * dense.norm()
    # Random weights put logits anywhere: masks are cut where half of the pixels lie on each side.
    cut = dense.flatten(2).median(-1).values[..., None, None]
    one, other = hyper > cut, dense > cut
    union, common = (one | other).flatten(2).sum(-1), (one & other).flatten(2).sum(-1)
    assert (common / union).min() >= 0.999
    print(f"smallest IoU {(common / union).min():.6f}, logits {(hyper - dense).norm() / dense.norm():.1e}")
