"""Masks of bhk beside those of the authors' own code, for models whose code is only in a repository.

    python -m tools.relatives CODE [--only NAME]

CODE holds clones of the repositories in `CASES`, one folder each; add what they import to PYTHONPATH. For each model, the
authors' code builds it with random weights, bhk converts them, and both answer the same prompts with the decoded weights: the
authors' code with its own predictor, bhk with `bhk.segment`. results/relatives.csv keeps how far they are apart: the
smallest IoU of two masks, and the largest difference of the decoder's logits as a share of the largest logit.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import bhk
from bhk.pictures.dead_leaves import dead_leaves
from tools import relatives_code as code

CSV = Path(__file__).parent / "bench" / "results" / "relatives.csv"
PICTURE = dead_leaves(3, 512).picture[:333, :500]
POINT, BOX = (210.0, 140.0), (130.0, 80.0, 320.5, 250.0)
SIDE = 3  # points along each side of the grid that finds everything
PROMPTS: dict[str, dict[str, Any]] = {
    "point": {"points": [POINT]},
    "box": {"boxes": [BOX]},
    "everything": {"everything": True, "points_per_side": SIDE},
}


@dataclass(frozen=True)
class Case:
    """A model of a repository.

    Attributes:
        folder: the clone, and the folder in it that is put on the path.
        file: the name of the published checkpoint; empty for one in several files.
        authors: builds the model, and makes the authors' predictor of it.
        prompts: what the authors' code answers.
    """

    folder: str
    file: str
    authors: type[code.Authors]
    prompts: tuple[str, ...] = tuple(PROMPTS)


CASES = {
    "repvit_sam": Case("RepViT/sam", "repvit_sam.pt", code.RepVit),
    **{
        f"efficientvit_sam_{size}": Case("efficientvit", f"efficientvit_sam_{size}.pt", code.EfficientVit)
        for size in ("l0", "l1", "l2", "xl0", "xl1")
    },
    "sam2.1_hq_hiera_large": Case("sam-hq/sam-hq2", "sam2.1_hq_hiera_large.pt", code.HqSam2),
    **{
        f"efficienttam_{size}{end}": Case("EfficientTAM", f"efficienttam_{size}{end}.pt", code.EfficientTam)
        for size in ("ti", "s")
        for end in ("", "_1", "_2", "_512x512")
    },
    "edgetam": Case("EdgeTAM", "edgetam.pt", code.EdgeTam),
    "robust_sam_vit_b": Case("RobustSAM", "robust_sam_vit_b.pt", code.Robust),
    "robust_sam_vit_l": Case("RobustSAM", "robust_sam_vit_l.pt", code.Robust),
    "tinysam": Case("TinySAM", "tinysam_42.3.pth", code.Tiny, ("point", "box")),
    "efficient_sam_vitt": Case("EfficientSAM", "efficient_sam_vitt.pt", code.Efficient, ("point",)),
    "efficient_sam_vits": Case("EfficientSAM", "efficient_sam_vits.pt", code.Efficient, ("point",)),
    "sam_med2d": Case("SAM-Med2D", "sam-med2d_b.pth", code.SamMed2d, ("point", "box")),
    "ft_sam": Case("SAM-Med2D", "ft-sam_b.pth", code.FtSam, ("point", "box")),
    "medsam": Case("MedSAM", "medsam_vit_b.pth", code.Med, ("box",)),
    "lite_medsam": Case("LiteMedSAM", "lite_medsam.pt", code.LiteMed, ("box",)),
    "mobile_sam_v2_efficientvit_l2": Case("MobileSAM/MobileSAMv2", "", code.MobileSamV2),
}


def measure(name: str, folder: Path) -> Iterator[dict[str, object]]:
    """Yield a row for each prompt of a case, whose code is on the path."""
    case = CASES[name]
    authors = case.authors(name)
    _draw(authors.model)
    source = authors.save(folder / (case.file or "parts"))
    file = folder / f"{name}.bhk"
    report = bhk.convert(source, file)
    authors.model.load_state_dict(bhk.load_state_dict(file), strict=True)
    authors.model.eval()
    model = bhk.load(file)
    for prompt in case.prompts:
        question = PROMPTS[prompt]
        with torch.no_grad(), _logits(authors.decoder) as expected:
            theirs = authors.answer(PICTURE, **question)
        with _logits(code.decoder_of(model)) as logits:
            found = bhk.segment(model, PICTURE, **question).masks
        error = (torch.cat(logits) - torch.cat(expected)).abs().max() / torch.cat(expected).abs().max()
        yield {
            "variant": name,
            "prompt": prompt,
            "masks": len(found),
            "iou": f"{_smallest_iou(found, theirs):.6f}",
            "logits_error": f"{float(error):.2e}",
            "ratio": f"{report.ratio:.3f}",
        }


def _draw(model: nn.Module) -> None:
    """Draw weights that give masks with some shape, of which mask generators keep some."""
    generator = torch.Generator().manual_seed(0)
    decoder: Any = code.decoder_of(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
        heads = [layer for name, layer in decoder.named_modules() if name.endswith("mlp")]
        for head in (*decoder.output_hypernetworks_mlps, *heads):
            for parameter in _last(head).parameters() if hasattr(head, "layers") else ():
                parameter.mul_(1000)
        _last(decoder.iou_prediction_head).bias.fill_(3)


def _last(head: Any) -> Any:
    """Return the last layer of a head; EfficientSAM's has it beside the others."""
    return head.fc if hasattr(head, "fc") else head.layers[-1]


@contextlib.contextmanager
def _logits(decoder: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list to which each call of the decoder in the block adds the logits that it returns."""
    seen: list[Tensor] = []
    hook = decoder.register_forward_hook(lambda *call: seen.append(call[2][0].detach().flatten().float()))
    try:
        yield seen
    finally:
        hook.remove()


def _smallest_iou(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    """Return the smallest IoU of two masks of the same place in both lists; 0 for lists of different lengths."""
    if ours.shape != theirs.shape or not len(ours):
        return 0.0
    both, either = (ours & theirs).sum((1, 2)), (ours | theirs).sum((1, 2))
    return float(np.where(either, both / np.maximum(either, 1), 1).min())


def _in_process(root: Path, name: str) -> list[dict[str, object]]:
    """Measure a case in a process of its own, because several repositories have modules of the same name."""
    path = os.pathsep.join(filter(None, (str(root / CASES[name].folder), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-W", "ignore", "-m", "tools.relatives", str(root), "--inside", name]
    lines = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, check=True, text=True
    )
    clone = root / Path(CASES[name].folder).parts[0]
    commit = subprocess.run(["git", "-C", clone, "rev-parse", "HEAD"], stdout=subprocess.PIPE, check=True, text=True)
    rows: list[dict[str, object]] = json.loads(lines.stdout.splitlines()[-1])
    return [{**row, "code": commit.stdout.strip()} for row in rows]


def main() -> None:
    """Measure, and write the rows beside earlier ones of other models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("code", type=Path, help="the folder with the clones")
    parser.add_argument("--only", default="", help="only the models whose name contains this")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        with tempfile.TemporaryDirectory(prefix="bhk-") as folder:
            print(json.dumps(list(measure(options.inside, Path(folder)))))
        return
    kept = list(csv.DictReader(CSV.open(encoding="utf-8"))) if CSV.exists() else []
    for name in [name for name in CASES if options.only in name]:
        rows = _in_process(options.code.resolve(), name)
        kept = [row for row in kept if row["variant"] != name] + [{key: str(row[key]) for key in row} for row in rows]
        kept.sort(key=lambda row: list(CASES).index(row["variant"]))
        with CSV.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
        for row in rows:
            print(*row.values())


if __name__ == "__main__":
    main()
