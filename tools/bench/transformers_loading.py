"""`from_pretrained` of a .bhk file beside that of dense weights.

A `SamModel` of transformers, of the size of sam-vit-base, with synthetic weights, in folders as transformers and `bhk push`
write them. Each loading is a fresh process; seconds are medians of wall time, peak memory is the largest growth of the resident
memory. Dense weights are mapped and come into memory on first use; so "read" gives the peak again after every weight was read.
Logits are those of an image with a point, compared with those of the file's decoded weights.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SamConfig, SamModel

import bhk
import bhk.transformers
from bhk.checkpoint.roles import role_of
from bhk.publishing.push import push
from tools.bench.frame.benchmark import Benchmark, Option, Row, Run
from tools.bench.frame.memory import MIB
from tools.bench.frame.process import Apart, apart
from tools.bench.frame.results import version
from tools.bench.models.synthetic import Entry, fill

MODEL = "SamModel, sam-vit-base"
OUTPUTS = {"masks": "pred_masks", "scores": "iou_scores"}


def load(folder: str) -> Iterator[None]:
    """Load a folder, then read every weight; run in a process of its own."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    yield
    model = SamModel.from_pretrained(folder)
    yield
    for tensor in model.state_dict().values():
        tensor.sum()
    yield


def measure(model: str, run: Run) -> Iterator[Row]:
    dense, repository, file = run.folder / "dense", run.folder / "repository", run.folder / "sam.bhk"
    _synthetic(SamModel(SamConfig())).save_pretrained(dense)
    bhk.convert(dense, file)
    push(file, "user/sam", folder=repository)
    reference = SamModel(SamConfig())
    bhk.load_into(reference, file, mode="dense")
    expected = _logits(reference)
    files = {"dense": dense / "model.safetensors", "bhk": repository / "model.bhk"}
    loadings: dict[str, list[Apart]] = {side: [] for side in files}
    for _ in range(run["runs"]):
        for side, path in files.items():
            loadings[side].append(apart(load, path.parent))
    found = _logits(SamModel.from_pretrained(repository))
    errors = {f"{name}_error": f"{(found[name] - expected[name]).abs().max():.1e}" for name in expected}
    for side, path in files.items():
        loaded, read = zip(*(loading.stages for loading in loadings[side]), strict=True)
        yield {
            "model": model,
            "side": side,
            "file_mib": f"{path.stat().st_size / MIB:.1f}",
            "load_s": f"{statistics.median(stage.seconds for stage in loaded):.2f}",
            "load_peak_mib": f"{statistics.median(stage.host_peak_mib or 0 for stage in loaded):.0f}",
            "read_peak_mib": f"{statistics.median(stage.host_peak_mib or 0 for stage in read):.0f}",
            **(errors if side == "bhk" else {}),
            **{f"{name}_largest": f"{expected[name].abs().max():.1e}" for name in expected},
            "transformers": version("transformers"),
        }


def _synthetic(model: nn.Module) -> Any:
    """Return the model with synthetic weights."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        fill(tensor, Entry(name, tuple(tensor.shape), tensor.dtype, role_of(name, tensor)), generator)
    return model


@torch.inference_mode()
def _logits(model: Any) -> dict[str, Tensor]:
    """Return the model's answers about one image with a point."""
    torch.manual_seed(0)
    image, points = torch.randn(1, 3, 1024, 1024), torch.tensor([[[[300.0, 400.0]]]])
    output = model.eval()(pixel_values=image, input_points=points)
    return {name: output[key] for name, key in OUTPUTS.items()}


BENCHMARK = Benchmark(
    lambda run: [MODEL],
    measure,
    case="model side",
    figures="file_mib load_s load_peak_mib read_peak_mib masks_error scores_error masks_largest scores_largest transformers",
    csv="transformers_loading",
    shown="side file_mib load_s load_peak_mib read_peak_mib masks_error scores_error",
    options={"runs": Option(3, "processes a side", quick=1)},
)
