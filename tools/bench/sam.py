"""A whole SAM on a CPU, dense beside HyperLinear layers.

The three models come from one .bhk file of true size with synthetic weights: decoded densely, with exact HyperLinear layers,
and with 8-bit inputs. Times are medians of wall time; the models take turns. Masks are compared after the same threshold,
logits by relative error. Peak memory is that of loading the file in a fresh process. `encoders` and `gpu_loading` measure
GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bhk
from tools.bench.frame.benchmark import Benchmark, Option, Row, Run
from tools.bench.frame.memory import MIB, linear_bytes, module_bytes
from tools.bench.frame.process import apart
from tools.bench.frame.timing import alternate
from tools.bench.models.sam_parts import Parts, random_points
from tools.bench.models.synthetic import DEMO, make

SIDES: dict[str, dict[str, Any]] = {"dense": {"mode": "dense"}, "exact": {}, "int8": {"compute": "int8"}}
PROMPTS = 32


def load(path: str, side: str) -> Iterator[None]:
    """Load a side; run in a process of its own."""
    import segment_anything  # noqa: F401  (bhk imports it when it builds a model)

    yield
    model = bhk.load(path, **SIDES[side])
    yield
    del model


@torch.inference_mode()
def measure(variant: str, run: Run) -> Iterator[Row]:
    path = _converted(variant, run.folder)
    models = {side: bhk.load(path, **options) for side, options in SIDES.items()}
    parts = {side: Parts(model) for side, model in models.items()}
    torch.manual_seed(0)
    size = parts["dense"].size
    image, points = torch.randn(1, 3, size, size), random_points(PROMPTS, size, "cpu")
    encoding = {side: partial(part.encode, image) for side, part in parts.items()}
    encoder, features = _in_turn(encoding, run["runs"])

    def decoding(count: int) -> dict[str, Callable[[], Any]]:
        """Return what decodes the masks of `count` prompts, (prompts, 1, height, width), prompts embedded anew."""
        return {side: partial(part.segment, features[side], points[:count]) for side, part in parts.items()}

    prompt, _ = _in_turn(decoding(1), max(run["runs"], 16 if run.quick else 64))
    prompts, logits = _in_turn(decoding(PROMPTS), max(run["runs"], 3))
    dense = logits["dense"]
    for side, model in models.items():
        seconds = {"encoder": encoder, "prompt": prompt, "prompts": prompts}
        iou = _iou(logits[side], dense)
        yield {
            "model": variant,
            "side": side,
            "dtype": "float32",
            **{f"{part}_s": f"{times[side]:.4f}" for part, times in seconds.items()},
            **{f"{part}_ratio": f"{times[side] / times['dense']:.3f}" for part, times in seconds.items()},
            "linear_share": f"{linear_bytes(model) / linear_bytes(models['dense']):.4f}",
            "dense_mib": f"{module_bytes(models['dense']) / MIB:.0f}",
            "load_peak_mib": f"{apart(load, path, side).stages[0].host_peak_mib:.0f}",
            "iou_mean": f"{iou.mean():.5f}",
            "iou_min": f"{iou.min():.5f}",
            "logits_error": f"{(logits[side] - dense).norm() / dense.norm():.2e}",
        }


def _converted(variant: str, folder: Path) -> Path:
    """Return a .bhk file of a synthetic checkpoint of the variant."""
    checkpoint, path = folder / f"{variant}.pth", folder / f"{variant}.bhk"
    make(variant, checkpoint)
    bhk.convert(checkpoint, path)
    checkpoint.unlink()
    return path


def _in_turn(calls: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the median seconds of each call, and what it returned when it was called to warm up."""
    results = {side: call() for side, call in calls.items()}
    return alternate(calls, "cpu", least=rounds, most=rounds), results


def _iou(logits: Tensor, reference: Tensor) -> Tensor:
    """Return the intersection over union of each prompt's mask with the reference's; 1 where both are empty."""
    one, other = (logits > 0).flatten(1), (reference > 0).flatten(1)
    union = (one | other).sum(1)
    return torch.where(union > 0, (one & other).sum(1) / union.clamp(min=1), 1.0)


BENCHMARK = Benchmark(
    lambda run: [run["variant"]],
    measure,
    case="model side",
    figures="dtype encoder_s prompt_s prompts_s encoder_ratio prompt_ratio prompts_ratio "
    "linear_share dense_mib load_peak_mib iou_mean iou_min logits_error",
    csv="sam_{device}",
    shown="side encoder_ratio prompt_ratio prompts_ratio linear_share load_peak_mib iou_min",
    options={
        "variant": Option("sam_vit_b", "a SAM in tests/data/state_dicts, or demo_sam", quick=DEMO),
        "runs": Option(3, "rounds of the encoder", quick=1),
    },
)
