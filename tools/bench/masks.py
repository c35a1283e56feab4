"""Masks of every model that can be built here: from a .bhk file, and by its own package with equal weights.

Each model has random weights and the published size, unless its number of parameters says otherwise. The package builds it,
its state dict is converted with the default preset, and the file has to be recognised as this model. One side is the
package's class with the decoded weights, asked with the package's predictor. The other is what `bhk.load` returns, asked as
`bhk.segment` does. "iou" is the smallest IoU of all masks, cut at the median of their logits, because random weights put
logits anywhere. "logits" is the norm of the difference of the mask decoder's outputs over their norm. The table in
docs/models.md is made from results/masks.csv.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bhk
from bhk.file.bhkfile import open_file
from bhk.nn.plan import Mode
from bhk.pictures.image import Rgb, read_image
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.predictor import predictor_for
from bhk.sam.variants import FAMILIES, VARIANTS, Variant
from tools.bench.frame.benchmark import Benchmark, Rows, Run
from tools.bench.frame.results import version
from tools.bench.models.authors import Authors, Caught, authors_of
from tools.bench.models.sam_parts import relative_error
from tools.demo import PICTURES
from tools.model_table import representative

PICTURE = PICTURES / "toys.jpg"
PROMPTS = (Prompt(((60, 50),)), Prompt(((100, 200), (120, 180)), ((5, 5),)), Prompt(box=(40, 60, 200, 220)))
_STD = 0.02  # of what packages set to zero, which would hide errors


def cases(run: Run) -> list[str]:
    """Return the models whose packages are installed, the smallest first; of those with the same modules, only the first."""
    known = {
        variant.name: variant for variant in map(representative, VARIANTS.values()) if authors_of(variant) is not None
    }
    smallest_first = sorted(known, key=lambda name: known[name].parameters or 0)
    return ["mobile_sam"] if run.quick else smallest_first


def measure(name: str, run: Run) -> Rows:
    variant = VARIANTS[name]
    authors = authors_of(variant)
    assert authors is not None  # as in every case
    compared = compare(lambda: _random(variant, authors), variant, authors, run.folder / name)
    if compared.variant != name:
        raise ValueError(f"the file is taken for {compared.variant}, not for {name}")
    return [
        {
            "variant": name,
            "package": version(authors.package),
            "parameters": compared.parameters,
            "masks": compared.expected.shape[0] * compared.expected.shape[1],
            "iou": f"{compared.iou:.6f}",
            "logits": f"{compared.error:.1e}",
        }
    ]


def _random(variant: Variant, authors: Authors) -> nn.Module:
    torch.manual_seed(0)
    model = authors.build(variant).eval()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=_STD)
    return model


@dataclass(frozen=True)
class Compared:
    """What a model finds.

    Attributes:
        variant: what its file is taken for.
        parameters: number of elements of its state dict.
        found, expected: mask logits by bhk and by the package, float32 (prompts, masks, height, width).
    """

    variant: str | None
    parameters: int
    found: Tensor
    expected: Tensor

    @property
    def iou(self) -> float:
        """The smallest IoU of all masks."""
        cut = self.expected.flatten(2).median(-1).values[..., None, None]
        one, other = self.found > cut, self.expected > cut
        return float(((one & other).flatten(2).sum(-1) / (one | other).flatten(2).sum(-1)).min())

    @property
    def error(self) -> float:
        """The norm of the difference of the logits over the norm of those by the package."""
        return relative_error((self.found,), (self.expected,))


def compare(
    build: Callable[[], nn.Module], variant: Variant, authors: Authors, folder: Path, mode: Mode = "auto"
) -> Compared:
    """Convert a model of a package, and compare what bhk and the package find with the weights in the file.

    Args:
        build: returns the model; the weights in the file take the place of its own. It is not kept, as it may be large.
        variant: its family and the name of its published file.
        folder: for its files; it must not exist.
        mode: see `bhk.load`.
    """
    folder.mkdir()
    picture, target = read_image(PICTURE), folder / "model.bhk"
    model = build()
    size = sum(tensor.numel() for tensor in model.state_dict().values())
    bhk.convert(_write(model, variant, authors, folder), target)
    with open_file(target) as file:
        held = file.container.header.model
    expected = authors.logits(_with_weights(model, authors, target), picture, PROMPTS)
    del model
    found = _by_bhk(variant, authors, target, picture, mode)
    shutil.rmtree(folder)
    return Compared(held.variant if held else None, size, found, expected)


def _write(model: Any, variant: Variant, authors: Authors, folder: Path) -> Path:
    """Write a checkpoint called like the published one."""
    path = folder / variant.files[0].removesuffix(".zip")
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder)
    else:
        torch.save({authors.published(name): tensor for name, tensor in model.state_dict().items()}, path)
    return path


def _with_weights(model: Any, authors: Authors, file: Path) -> nn.Module:
    """Return a model with the decoded weights of a file, as its package loads them; one after another, in their places."""
    if not hasattr(model, "from_pretrained"):
        with open_file(file) as opened:
            for name, tensor in model.state_dict().items():
                tensor.copy_(opened.tensor(authors.published(name)))
        return model.eval()  # type: ignore[no-any-return]  # again, because TinyViT keeps a copy of its biases then
    bhk.export(file, file.parent / "model.safetensors", force=True)  # in place of the original's
    loaded: nn.Module = type(model).from_pretrained(file.parent)
    return loaded.eval()


def _by_bhk(variant: Variant, authors: Authors, file: Path, picture: Rgb, mode: Mode) -> Tensor:
    """Return the logits of the model that bhk loads, asked by bhk where it asks such models with points."""
    model, prompts = bhk.load(file, mode=mode), FAMILIES[variant.family].prompts
    if "points" not in prompts or "texts" in prompts:
        return authors.logits(model, picture, PROMPTS)
    predictor = predictor_for(model)
    with Caught(predictor.decoder) as found, torch.no_grad():
        predictor.set_image(picture)
        for prompt in PROMPTS:
            predictor.predict(prompt, multimask=True)
    return torch.cat(found)


BENCHMARK = Benchmark(cases, measure, case="variant", figures="package parameters masks iou logits", csv="masks")
