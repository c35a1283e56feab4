"""`from_pretrained` of a .bhk file beside that of dense weights: `python -m tools.bench.transformers_loading`.

A `SamModel` of transformers, of the size of sam-vit-base, with synthetic weights, in the folders that transformers and that
`bhk push` write. Each loading is in a fresh process, with its imports done: seconds are medians of wall time, peak memory is by
how much the resident memory grows at most. Dense weights are mapped, and come into memory when they are first used; so the peak
is told a second time, after every weight was read once ("read"). Logits are those of a picture with a point, compared with
those of the decoded weights of the file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SamConfig, SamModel

import bhk
import bhk.transformers
from bhk.checkpoint.roles import role_of
from bhk.publishing.push import push
from tools.bench.frame.results import ROOT, Row, environment, show, version, write_csv
from tools.bench.models.synthetic import Entry, fill

NAME = "transformers_loading"
SHOWN = ("side", "file_mib", "load_s", "load_peak_mib", "read_peak_mib", "masks_error", "scores_error")
OUTPUTS = {"masks": "pred_masks", "scores": "iou_scores"}
LOADING = """
import json, sys, time, bhk.transformers
from transformers import SamModel
from transformers.utils import logging
from tools.bench.frame.memory import HostPeak
logging.disable_progress_bar()
host, begin = HostPeak(), time.perf_counter()
model = SamModel.from_pretrained(sys.argv[1])
loaded = [time.perf_counter() - begin, host.mib]
for tensor in model.state_dict().values():
    tensor.sum()
print(json.dumps([*loaded, host.mib]))
"""


def measure(runs: int, folder: Path) -> list[Row]:
    """Return one row a side."""
    dense, repository = folder / "dense", folder / "repository"
    invent(SamModel(SamConfig())).save_pretrained(dense)
    bhk.convert(dense, folder / "sam.bhk")
    push(folder / "sam.bhk", "user/sam", folder=repository)
    reference = SamModel(SamConfig())
    bhk.load_into(reference, folder / "sam.bhk", mode="dense")
    expected = logits(reference)
    files = {"dense": dense / "model.safetensors", "bhk": repository / "model.bhk"}
    loadings: dict[str, list[list[float]]] = {side: [] for side in files}
    for _ in range(runs):
        for side, file in files.items():
            loadings[side].append(load(file.parent))
    found = logits(SamModel.from_pretrained(repository))
    rows: list[Row] = []
    for side, file in files.items():
        load_s, load_peak, read_peak = map(statistics.median, zip(*loadings[side], strict=True))
        errors = {name: (found[name] - expected[name]).abs().max().item() for name in expected}
        rows.append(
            {
                "model": "SamModel, sam-vit-base",
                "side": side,
                "file_mib": f"{file.stat().st_size / 2**20:.1f}",
                "load_s": f"{load_s:.2f}",
                "load_peak_mib": f"{load_peak:.0f}",
                "read_peak_mib": f"{read_peak:.0f}",
                **{f"{name}_error": f"{error:.1e}" if side == "bhk" else "" for name, error in errors.items()},
                **{f"{name}_largest": f"{expected[name].abs().max().item():.1e}" for name in expected},
                "transformers": version("transformers"),
                **environment(),
            }
        )
    return rows


def invent(model: nn.Module) -> Any:
    """Give the model synthetic weights."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        fill(tensor, Entry(name, tuple(tensor.shape), tensor.dtype, role_of(name, tensor)), generator)
    return model


def load(folder: Path) -> list[float]:
    """Return seconds and peak MiB of loading `folder` in a fresh process, and the peak once every weight was read."""
    command = [sys.executable, "-c", LOADING, str(folder)]
    ended = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: list[float] = json.loads(ended.stdout)
    return found


def logits(model: Any) -> dict[str, Tensor]:
    """Return what the model answers about one picture with a point."""
    torch.manual_seed(0)
    picture, points = torch.randn(1, 3, 1024, 1024), torch.tensor([[[[300.0, 400.0]]]])
    with torch.inference_mode():
        output = model.eval()(pixel_values=picture, input_points=points)
    return {name: output[key] for name, key in OUTPUTS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="processes a side")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(parser.parse_args().runs, Path(folder))
    show(rows, SHOWN)
    print(write_csv(NAME, rows))


if __name__ == "__main__":
    main()
