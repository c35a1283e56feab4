"""Convert a fine-tuned model, as a trainer saved it, to a .bhk file, and check whether its masks are still the same.

    python examples/convert_fine_tune.py                                 # the demo model after a training step
    python examples/convert_fine_tune.py epoch_12.pth --images photos/   # yours

A trainer's checkpoint may hold the state of the optimizer, which is larger than the weights, a scheduler, and names that begin
with "module.". bhk finds the weights, leaves out the rest and lists it; `bhk.export` restores the names.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

import bhk

DEMO = Path(__file__).with_name("demo")


def fine_tune(path: Path) -> None:
    """Train the demo model for one step, and save everything as trainers on several GPUs do."""
    sam = bhk.load(DEMO / "demo_sam.safetensors")
    optimizer = torch.optim.AdamW(sam.parameters(), lr=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000)
    sum(parameter.square().sum() for parameter in sam.parameters()).backward()  # in place of a loss on your pictures
    optimizer.step()
    scheduler.step()
    weights = {f"module.{name}": tensor for name, tensor in sam.state_dict().items()}
    state = {"model": weights, "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(), "epoch": 12}
    torch.save(state, path)


def convert(checkpoint: Path, images: Path, points: int, workers: int | None) -> bhk.FidelityReport:
    """Convert a checkpoint, and compare the masks of the file with those of the checkpoint."""
    converted = bhk.convert(checkpoint)
    print(f"{converted.path}: {converted.bytes:,} bytes, {converted.ratio:.2f} times smaller than the weights")
    print(f"and {checkpoint.stat().st_size / converted.bytes:.1f} times smaller than the checkpoint, which also holds:")
    print("  " + ", ".join(converted.left_out))
    settings = bhk.FidelitySettings(points=points, boxes=points // 2)
    report = bhk.fidelity(converted.path, images, against=checkpoint, settings=settings, workers=workers)
    masks, noise = report.fidelity.all, report.control.all
    print(f"{masks.masks} masks in {report.pictures} pictures, IoU with the masks of the checkpoint:")
    for name, found in (("compressed", masks), ("original in bfloat16", noise)):
        print(f"  {name:22}mean {found.iou_mean.value:.4f}, median {found.iou_median.value:.4f}")
    return report


def main(arguments: Sequence[str] | None = None) -> bhk.FidelityReport:
    """Convert the checkpoint given on the command line, or one made from the demo model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", type=Path)
    parser.add_argument(
        "--images", type=Path, default=DEMO / "pictures", help="a folder of pictures, without annotations"
    )
    parser.add_argument("--points", type=int, default=8, help="prompts per picture; boxes are half as many")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint or Path(folder) / "epoch_12.pth"
        if options.checkpoint is None:
            fine_tune(checkpoint)
        return convert(checkpoint, options.images, options.points, options.workers)


if __name__ == "__main__":
    main()
