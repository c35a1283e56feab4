"""Teach a compressed Segment Anything model pictures taken at night: low-rank adapters (LoRA, Hu et al. 2021) on its codes.

    python examples/train_lora.py --steps 40 --out night.safetensors

Codes stay as they are; gradients pass through them to the adapters. With peft, wrap the layers by
`config._register_custom_module({HyperLinear: peft.tuners.lora.Linear})` and `peft.inject_adapter_in_model(config, sam)`.
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
from bhk.pictures.masks import bounding_box
from bhk.pictures.scenes import HELD_OUT, Scene, make_scene

DEMO = Path(__file__).with_name("demo")


def add_lora(sam: nn.Module, rank: int = 4) -> nn.ModuleDict:
    """Add the product of two small matrices to every HyperLinear of the image encoder; return them: all that learns."""
    sam.requires_grad_(False)
    adapter = nn.ModuleDict()
    for name, layer in sam.image_encoder.named_modules():
        if isinstance(layer, HyperLinear):
            down, up = nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=False)
            nn.init.zeros_(up.weight)
            pair = adapter[name.replace(".", "/")] = nn.Sequential(down, up)
            layer.register_forward_hook(lambda _, inputs, output, pair=pair: output + pair(inputs[0]))
    return adapter


def loss_of(sam: nn.Module, scene: Scene) -> Tensor:
    """Return the cross entropy of the masks that a model gives for the boxes of a scene by night. Yours: your data."""
    noise = np.random.default_rng(0).normal(0, 2, scene.picture.shape)
    picture = torch.from_numpy(np.clip(0.06 * scene.picture + noise, 0, 255)).float().permute(2, 0, 1)
    boxes = torch.tensor([bounding_box(mask) for mask in scene.masks]).float()
    embedding, position = sam.image_encoder(sam.preprocess(picture)[None]), sam.prompt_encoder.get_dense_pe()
    sparse, dense = sam.prompt_encoder(points=None, boxes=boxes, masks=None)
    logits, _ = sam.mask_decoder(embedding, position, sparse, dense, multimask_output=False)
    masks = functional.adaptive_avg_pool2d(torch.from_numpy(scene.masks).float(), logits.shape[-2:])
    return functional.binary_cross_entropy_with_logits(logits[:, 0], masks)


@torch.no_grad()
def evaluate(sam: nn.Module) -> float:
    """Return the mean loss over scenes of which the model has seen none."""
    return float(np.mean([loss_of(sam, make_scene(HELD_OUT + number)).item() for number in range(4)]))


def train(sam: nn.Module, adapter: nn.ModuleDict, steps: int) -> None:
    """Let the adapter learn from one scene a step."""
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=5e-3)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(sam, make_scene(step)).backward()
        optimizer.step()


def main(arguments: Sequence[str] | None = None) -> tuple[float, float, float]:
    """Train, save, load again; return the loss before, after, and with the adapter as it was loaded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("night.safetensors"))
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        model = bhk.convert(DEMO / "demo_sam.safetensors", Path(folder) / "demo_sam.bhk").path
        sam, fresh, weights = bhk.load(model), bhk.load(model), bhk.inspect(model).total.weights
    adapter = add_lora(sam)
    before = evaluate(sam)
    train(sam, adapter, options.steps)
    save_file(adapter.state_dict(), options.out)
    add_lora(fresh).load_state_dict(load_file(options.out))
    after, again = evaluate(sam), evaluate(fresh)
    print(f"loss on other scenes by night: {before:.4f} before, {after:.4f} after {options.steps} steps")
    print(f"{options.out}: {options.out.stat().st_size:,} bytes; loaded again, the loss is {again:.4f}")
    learning = sum(parameter.numel() for parameter in adapter.parameters())
    for name, count in (("the adapter", learning), ("all weights", weights)):  # float32: weight, gradient, two moments
        print(f"to train {name}: {count:,} parameters, {16 * count / 1e6:.1f} MB with gradients and moments")
    return before, after, again


if __name__ == "__main__":
    main()
