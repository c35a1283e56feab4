"""Which parts of a Segment Anything model need fine steps: the study behind the table of bhk/sam/allocation.py.

    python -m tools.bench.allocation [--checkpoint sam.safetensors]

A row for each part of the model, with two measures of what it needs; both are relative to the mean over all coded weights.

* Sensitivity: the squared change of masks and predicted IoUs for each weight and unit of squared error, by gradients of random
  projections of the outputs on dead leaves. By theory (reverse water-filling) a part is to be finer than another by as many
  dB as it is more sensitive. The constant is chosen so that the weights together get as many dB as by the table.
* Cost: 1 - IoU with the original's masks of held-out scenes when the part alone is coded. Costs of parts add up in squares;
  at the best allocation the square is as the part's share of the weights, and `excess_db` is by how much it is above that.
  Only single-mask output is asked for: of the hypernetworks one counts, and of the IoU head nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

import bhk
from bhk.calibration.inputs import SamInputs
from bhk.calibration.sensitivity import measure
from bhk.pictures.prompted import synthetic
from bhk.sam.allocation import PARTS, Part, part_of
from bhk.sam.recognise import recognise
from tools.bench.frame.results import Row, environment, show, write_csv
from tools.bench.models.mask_fidelity import (
    CHECKPOINT,
    KINDS,
    SCENES,
    Work,
    answers,
    compared,
    float32_checkpoint,
    original_answers,
)

NAME = "allocation"
PICTURES = 8
SIDE = 128  # pixels of the pictures shown; models scale them to their size
SHOWN = ("part", "weights_percent", "sensitivity_db", "theory_db", "table_db", "cost", "excess_db")

Groups = Mapping[Part, list[str]]  # the names of the coded tensors of each part
Floats = NDArray[np.float64]  # (parts,)


def encode(checkpoint: Path) -> tuple[list[str], dict[str, Tensor]]:
    """Return the names of the tensors that the default preset codes, and what it makes of all tensors."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "sam.bhk"
        report = bhk.convert(checkpoint, target)
        return [layer.name for layer in report.layers if layer.encoding == "trajectory"], bhk.load_state_dict(target)


def groups_of(tensors: Mapping[str, Tensor], coded: list[str]) -> Groups:
    """Return the coded tensors of each part that has any, in the order of the table."""
    found = recognise({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if found is None or found.prefix:
        raise SystemExit("expected a Segment Anything checkpoint whose names have no prefix")
    by_part = {part: [name for name in coded if part_of(found.family, name) is part] for part in PARTS}
    return {part: names for part, names in by_part.items() if names}


def sensitivities(model: nn.Module, groups: Groups) -> Floats:
    """Return the mean squared change of the outputs for each weight and unit of squared error."""
    parameters = dict(model.named_parameters())
    weights = {name: parameters[name] for names in groups.values() for name in names}
    inputs = SamInputs(synthetic("dead-leaves", PICTURES, 0, SIDE))
    change = dict.fromkeys(weights, 0.0)
    for index in range(PICTURES):
        for name, found in measure(model, weights, lambda name: None, partial(inputs.run, model, index), index).items():
            change[name] += found.plain * weights[name].numel() / PICTURES
    sizes = [sum(weights[name].numel() for name in names) for names in groups.values()]
    return np.array([sum(change[name] for name in names) for names in groups.values()]) / sizes


def costs(work: Work, original: Mapping[str, Tensor], decoded: Mapping[str, Tensor], groups: Groups) -> Floats:
    """Return the root mean square, over boxes and points, of 1 - IoU of masks when a part alone is coded."""
    model = bhk.load(work.checkpoint)
    lost = []
    for names in groups.values():
        model.load_state_dict({**original, **{name: decoded[name] for name in names}})
        columns = compared(work.scenes, original_answers(work), answers(model, work.scenes))
        lost.append([1 - float(str(columns[f"{kind}_iou"])) for kind in KINDS])
    return np.sqrt(np.square(lost).mean(1))


def study(work: Work) -> list[Row]:
    """Measure every part of a model."""
    original = load_file(work.checkpoint)
    coded, decoded = encode(work.checkpoint)
    groups = groups_of(original, coded)
    sizes = np.array([sum(original[name].numel() for name in names) for names in groups.values()])
    shares = sizes / sizes.sum()
    table = np.array([part.finer_db for part in groups])
    sensitivity, cost = sensitivities(bhk.load(work.checkpoint), groups), costs(work, original, decoded, groups)
    with np.errstate(divide="ignore"):  # a part that was not asked for, such as the prompt encoder's for masks
        sensitivity_db = 10 * np.log10(sensitivity / (shares @ sensitivity))
        excess_db = 10 * np.log10(cost**2 / (cost**2).sum() / shares)
    felt = sensitivity > 0
    theory_db = sensitivity_db + np.average((table - sensitivity_db)[felt], weights=shares[felt])
    columns = zip(groups, shares, sensitivity_db, theory_db, cost, excess_db, strict=True)
    return [
        {
            "part": part.title,
            "tensors": len(groups[part]),
            "weights_percent": f"{100 * share:.2f}",
            "sensitivity_db": f"{db:.1f}",
            "theory_db": f"{theory:.1f}",
            "table_db": f"{part.finer_db:+g}",
            "cost": f"{alone:.5f}",
            "excess_db": f"{excess:.1f}",
        }
        for part, share, db, theory, alone, excess in columns
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.allocation", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help=".safetensors, float32, of a small SAM (default: the demo SAM)")
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"how many (default: {SCENES})")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with float32_checkpoint(arguments.checkpoint or CHECKPOINT) as checkpoint:
        rows = study(Work(checkpoint, arguments.scenes))
    show(rows, SHOWN)
    if arguments.checkpoint is None:
        where = environment()
        print(write_csv(NAME, [row | where for row in rows]))


if __name__ == "__main__":
    main()
