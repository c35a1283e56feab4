"""Train low-rank adapters (LoRA, Hu et al. 2021) on a compressed model: teach it pictures taken at night.

    python examples/train_lora.py --steps 40 --out night

The codes stay as they are, and gradients pass through them to the adapters, which PEFT puts beside the layers, trains, saves
and loads as in any model. At the end they are merged into the weights, and the model is compressed again.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn import functional

import bhk

DEMO = Path(__file__).with_name("demo") / "demo_sam.safetensors"
FOR_TEST = 1000  # scenes from this number on are not trained on
# The linear layers of the image encoder.
LORA = LoraConfig(r=4, lora_alpha=4, target_modules=r"image_encoder\.blocks\..*\.(qkv|proj|lin1|lin2)")


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


def train(sam: PeftModel, steps: int) -> None:
    """Train the adapters on one scene a step."""
    optimizer = torch.optim.AdamW((p for p in sam.parameters() if p.requires_grad), lr=5e-3)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(sam, step).backward()
        optimizer.step()


def main(arguments: Sequence[str] | None = None) -> tuple[float, float, float, float]:
    """Train, save, load and merge; return the loss before, after, with the adapters loaded again, and of the merged file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("night"), help="folder for the adapters and the merged model")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        model = bhk.convert(DEMO, Path(folder) / "demo_sam.bhk").path
        sam, fresh = (bhk.load(model, mode="hyper") for _ in range(2))

    sam = get_peft_model(sam, LORA)
    sam.print_trainable_parameters()
    before = evaluate(sam)
    train(sam, options.steps)
    sam.save_pretrained(options.out)

    loaded = PeftModel.from_pretrained(fresh, options.out)
    after, again = evaluate(sam), evaluate(loaded)
    print(f"loss on scenes that were not trained on: {before:.4f} before, {after:.4f} after {options.steps} steps")
    size = (options.out / "adapter_model.safetensors").stat().st_size
    print(f"{options.out}: adapters of {size:,} bytes; loaded again, the loss is {again:.4f}")

    merged = loaded.merge_and_unload()  # layers that take up adapters become dense
    bhk.nn.to_dense(merged)  # and so do the others
    report = bhk.convert(merged, options.out / "night.bhk", "fine", force=True)
    last = evaluate(bhk.load(report.path))
    print(f"{report.path}: merged and compressed again, {report.bytes:,} bytes; the loss is {last:.4f}")
    return before, after, again, last


if __name__ == "__main__":
    main()
