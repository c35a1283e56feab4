"""A whole SAM on a CPU, dense beside HyperLinear layers, in one run: `python -m tools.bench.sam [--variant sam_vit_b]`.

All three models are loaded from the same .bhk file of true size with synthetic weights: decoded densely, with exact
HyperLinear layers, and with 8-bit inputs. Times are medians of wall time, the models taken in turn.
Masks are compared after the same threshold, logits by relative error. Peak memory is that of a process of its own that loads
the file, above what it had with its imports done. What a card does, `encoders` and `card_loading` measure.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bhk
from tools.bench.frame.memory import MIB, linear_bytes, module_bytes
from tools.bench.frame.results import ROOT, Row, environment, show, write_csv
from tools.bench.frame.timing import alternate
from tools.bench.models.synthetic import make

SHOWN = ("side", "encoder_ratio", "prompt_ratio", "prompts_ratio", "linear_share", "load_peak_mib", "iou_min")
SIDES: dict[str, dict[str, Any]] = {
    "dense": {"mode": "dense"},
    "exact": {"mode": "hyper"},
    "int8": {"mode": "hyper", "compute": "int8"},
}
PROMPTS = 32
PEAK = """
import sys, segment_anything, bhk.nn
from tools.bench.frame.memory import HostPeak
host = HostPeak()
bhk.load(sys.argv[1], **eval(sys.argv[2]))
print(host.mib)
"""


def measure(variant: str, runs: int, folder: Path) -> list[Row]:
    """Return one row a side."""
    path = _converted(variant, folder)
    models = {name: bhk.load(path, device="cpu", **options) for name, options in SIDES.items()}
    torch.manual_seed(0)
    image = torch.randn(1, 3, 1024, 1024)
    points = torch.rand(PROMPTS, 1, 2) * 1024
    encoder_seconds, embeddings = _alternate({name: _encoding(model, image) for name, model in models.items()}, runs)

    def decode(count: int) -> tuple[dict[str, float], dict[str, Tensor]]:
        decodings = {name: _decoding(model, embeddings[name], points[:count]) for name, model in models.items()}
        return _alternate(decodings, max(3, runs, 64 // count))

    prompt_seconds, _ = decode(1)
    prompts_seconds, logits = decode(PROMPTS)
    seconds = {"encoder": encoder_seconds, "prompt": prompt_seconds, "prompts": prompts_seconds}
    rows: list[Row] = []
    for name, model in models.items():
        iou = _iou(logits[name], logits["dense"])
        rows.append(
            {
                "model": variant,
                "side": name,
                "dtype": "float32",
                **{f"{part}_s": f"{times[name]:.4f}" for part, times in seconds.items()},
                **{f"{part}_ratio": f"{times[name] / times['dense']:.3f}" for part, times in seconds.items()},
                "linear_share": f"{linear_bytes(model) / linear_bytes(models['dense']):.4f}",
                "dense_mib": f"{module_bytes(models['dense']) / MIB:.0f}",
                "load_peak_mib": f"{_load_peak(path, SIDES[name]):.0f}",
                "iou_mean": f"{iou.mean().item():.5f}",
                "iou_min": f"{iou.min().item():.5f}",
                "logits_error": f"{((logits[name] - logits['dense']).norm() / logits['dense'].norm()).item():.2e}",
                "device": "cpu",
                **environment(),
            }
        )
    return rows


def _converted(variant: str, folder: Path) -> Path:
    """Return a .bhk file of a synthetic checkpoint of the variant."""
    checkpoint, path = folder / f"{variant}.pth", folder / f"{variant}.bhk"
    make(variant, checkpoint)
    bhk.convert(checkpoint, path)
    checkpoint.unlink()
    return path


def _alternate(functions: dict[str, Callable[[], Tensor]], runs: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return the median seconds of each function, taken in turn after one call to warm up, and what it returned."""
    results = {name: function() for name, function in functions.items()}
    return alternate(functions, "cpu", least=runs, most=runs), results


def _encoding(model: nn.Module, image: Tensor) -> Callable[[], Tensor]:
    """Return what gives the image embedding."""
    return lambda: model.image_encoder(image)


def _decoding(model: nn.Module, embedding: Tensor, points: Tensor) -> Callable[[], Tensor]:
    """Return what gives the low-resolution mask logits (prompts, 1, 256, 256) of one positive point each, in float32."""
    labels = torch.ones(points.shape[:2], device=points.device)

    def decode() -> Tensor:
        sparse, dense = model.prompt_encoder(points=(points, labels), boxes=None, masks=None)
        logits, _ = model.mask_decoder(
            image_embeddings=embedding,
            image_pe=model.prompt_encoder.get_dense_pe().to(embedding.dtype),
            sparse_prompt_embeddings=sparse.to(embedding.dtype),
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return logits.float()

    return decode


def _iou(logits: Tensor, reference: Tensor) -> Tensor:
    """Return the intersection over union of each prompt's mask with the reference's; 1 where both are empty."""
    one, other = (logits > 0).flatten(1), (reference > 0).flatten(1)
    union = (one | other).sum(1)
    return torch.where(union > 0, (one & other).sum(1) / union.clamp(min=1), 1.0)


def _load_peak(path: Path, options: dict[str, Any]) -> float:
    """Return by how many MiB the resident memory of a fresh process grows at most while it loads `path`."""
    command = [sys.executable, "-c", PEAK, str(path), repr(options)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="sam_vit_b", help="a flat SAM in tests/data/state_dicts")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        rows = measure(arguments.variant, arguments.runs, Path(folder))
    show(rows, SHOWN)
    print(write_csv("sam_cpu", rows))


if __name__ == "__main__":
    main()
