"""Train low-rank adapters (LoRA, Hu et al. 2021) on a compressed model: teach it pictures taken at night.

    python examples/train_lora.py --steps 40 --out night.safetensors

The codes stay as they are, and gradients pass through them to the adapters. With peft, register the layers by
`config._register_custom_module({HyperLinear: peft.tuners.lora.Linear})` and call `peft.inject_adapter_in_model(config, sam)`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

import bhk
from bhk.nn import HyperLinear

DEMO = Path(__file__).with_name("demo") / "demo_sam.safetensors"
FOR_TEST = 1000  # scenes from this number on are not trained on


def make_scene(number: int, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture of coloured discs by night, uint8 (size, size, 3), and the discs, bool (discs, size, size).

    Replace this by your pictures and their masks.
    """
    random = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size]
    picture = random.uniform(30, 225, 3) + random.normal(0, 12, (size, size, 1))
    masks: list[np.ndarray] = []
    for _ in range(4):
        radius, centre = random.uniform(12, 26), random.uniform(20, size - 20, 2)
        disc = np.hypot(y - centre[0], x - centre[1]) < radius
        picture[disc] = random.uniform(30, 225, 3) + random.normal(0, 12, (disc.sum(), 1))
        masks = [mask & ~disc for mask in masks] + [disc]
    night = 0.06 * picture + random.normal(0, 2, picture.shape)
    return night.clip(0, 255).astype(np.uint8), np.stack([mask for mask in masks if mask.sum() > 100])


def add_lora(sam: nn.Module, rank: int = 4) -> nn.ModuleDict:
    """Add a product of two small matrices to every HyperLinear of the image encoder; return these adapters."""
    sam.requires_grad_(False)
    adapter = nn.ModuleDict()
    for name, layer in sam.image_encoder.named_modules():
        if isinstance(layer, HyperLinear):
            down, up = nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=False)
            nn.init.zeros_(up.weight)
            pair = adapter[name.replace(".", "/")] = nn.Sequential(down, up)
            layer.register_forward_hook(lambda _, inputs, output, pair=pair: output + pair(inputs[0]))
    return adapter


def loss_of(sam: nn.Module, number: int) -> Tensor:
    """Return the cross entropy of the model's masks for the boxes of the objects in a scene."""
    picture, masks = make_scene(number)
    boxes = torch.tensor([(*np.argwhere(mask.T).min(0), *np.argwhere(mask.T).max(0)) for mask in masks]).float()
    pixels = torch.from_numpy(picture).float().permute(2, 0, 1)
    embedding, position = sam.image_encoder(sam.preprocess(pixels)[None]), sam.prompt_encoder.get_dense_pe()
    sparse, dense = sam.prompt_encoder(points=None, boxes=boxes, masks=None)
    logits, _ = sam.mask_decoder(embedding, position, sparse, dense, multimask_output=False)
    wanted = functional.adaptive_avg_pool2d(torch.from_numpy(masks).float(), logits.shape[-2:])
    return functional.binary_cross_entropy_with_logits(logits[:, 0], wanted)


@torch.no_grad()
def evaluate(sam: nn.Module) -> float:
    """Return the mean loss over four scenes that were not trained on."""
    return float(np.mean([loss_of(sam, FOR_TEST + number).item() for number in range(4)]))


def train(sam: nn.Module, adapter: nn.ModuleDict, steps: int) -> None:
    """Train the adapters on one scene a step."""
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=5e-3)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(sam, step).backward()
        optimizer.step()


def main(arguments: Sequence[str] | None = None) -> tuple[float, float, float]:
    """Train, save, and load again; return the loss before, after, and with the adapters loaded again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("night.safetensors"))
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        model = bhk.convert(DEMO, Path(folder) / "demo_sam.bhk").path
        sam, fresh = (bhk.load(model, mode="hyper") for _ in range(2))
        weights = bhk.inspect(model).total.weights
    adapter = add_lora(sam)
    before = evaluate(sam)
    train(sam, adapter, options.steps)
    save_file(adapter.state_dict(), options.out)
    add_lora(fresh).load_state_dict(load_file(options.out))
    after, again = evaluate(sam), evaluate(fresh)
    print(f"loss on scenes that were not trained on: {before:.4f} before, {after:.4f} after {options.steps} steps")
    print(f"{options.out}: {options.out.stat().st_size:,} bytes; loaded again, the loss is {again:.4f}")
    learning = sum(parameter.numel() for parameter in adapter.parameters())
    for name, count in (("the adapters", learning), ("all weights", weights)):  # float32: weight, gradient, two moments
        print(f"training {name}: {count:,} parameters, {16 * count / 1e6:.1f} MB with gradients and moments")
    return before, after, again


if __name__ == "__main__":
    main()
