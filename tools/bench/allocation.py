"""Which parts of a SAM need fine steps: the study behind bhk/sam/allocation.py.

A row for each part of the model, with two measures of what it needs; both are relative to the mean over all coded weights.

* Sensitivity: the squared change of masks and predicted IoUs for each weight and unit of squared error, by gradients of random
  projections of the outputs on dead leaves. By theory (reverse water-filling) a part should be finer than another by as many dB
  as it is more sensitive. The constant is chosen so that the weights together get as many dB as by the table.
* Cost: 1 - IoU with the original's masks of held-out scenes when only this part is coded. Costs of parts add up in squares. At
  the best allocation a part's square is its share of the weights; `excess_db` says by how much it is larger. Only single-mask
  output is asked for, so one of the hypernetworks counts and the IoU head does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

import bhk
from bhk.calibration import sensitivity
from bhk.calibration.inputs import SamInputs
from bhk.pictures.prompted import synthetic
from bhk.sam.allocation import PARTS, Part, part_of
from bhk.sam.recognise import recognise
from tools.bench.frame.benchmark import Benchmark, Option, Rows, Run
from tools.bench.models.mask_fidelity import KINDS, answers, compared, original_answers, prepare
from tools.demo import CHECKPOINT

IMAGES = 8
SIDE = 128  # pixels of the images shown; models scale them to their size

Groups = Mapping[Part, list[str]]  # the names of the coded tensors of each part
Floats = NDArray[np.float64]  # (parts,)


def encode(checkpoint: Path) -> tuple[list[str], dict[str, Tensor]]:
    """Return the names of the tensors that the default preset codes, and all tensors decoded."""
    target = checkpoint.with_suffix(".bhk")
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
    inputs = SamInputs(synthetic("dead-leaves", IMAGES, 0, SIDE))
    change = dict.fromkeys(weights, 0.0)
    for index in range(IMAGES):
        show = partial(inputs.run, model, index)
        for name, found in sensitivity.measure(model, weights, lambda name: None, show, index).items():
            change[name] += found.plain * weights[name].numel() / IMAGES
    sizes = [sum(weights[name].numel() for name in names) for names in groups.values()]
    return np.array([sum(change[name] for name in names) for names in groups.values()]) / sizes


def costs(
    checkpoint: Path, scenes: int, original: Mapping[str, Tensor], decoded: Mapping[str, Tensor], groups: Groups
) -> Floats:
    """Return the root mean square, over boxes and points, of 1 - IoU of masks when only one part is coded."""
    model = bhk.load(checkpoint)
    lost = []
    for names in groups.values():
        model.load_state_dict({**original, **{name: decoded[name] for name in names}})
        columns = compared(scenes, original_answers(checkpoint, scenes), answers(model, scenes))
        lost.append([1 - float(str(columns[f"{kind}_iou"])) for kind in KINDS])
    return np.sqrt(np.square(lost).mean(1))


def measure(checkpoint: Path, run: Run) -> Rows:
    """Measure every part of a model."""
    original = load_file(checkpoint)
    coded, decoded = encode(checkpoint)
    groups = groups_of(original, coded)
    sizes = np.array([sum(original[name].numel() for name in names) for names in groups.values()])
    shares = sizes / sizes.sum()
    table = np.array([part.finer_db for part in groups])
    sensitive = sensitivities(bhk.load(checkpoint), groups)
    cost = costs(checkpoint, run["scenes"], original, decoded, groups)
    with np.errstate(divide="ignore"):  # a part that was not asked, such as the prompt encoder for masks
        sensitivity_db = 10 * np.log10(sensitive / (shares @ sensitive))
        excess_db = 10 * np.log10(cost**2 / (cost**2).sum() / shares)
    felt = sensitive > 0
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


BENCHMARK = Benchmark(
    lambda run: [prepare(run)],
    measure,
    case="part",
    figures="tensors weights_percent sensitivity_db theory_db table_db cost excess_db",
    csv="allocation",
    options={
        "checkpoint": Option(CHECKPOINT, "a small SAM, .safetensors"),
        "scenes": Option(40, "how many to show the model", quick=2),
        "workers": Option(1, "processes of one thread each"),
    },
    processes="workers",
)
