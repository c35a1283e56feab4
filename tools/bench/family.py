"""Ratio and time of converting every model of the family with the default preset.

Each checkpoint has the true names and shapes and synthetic weights: ratios come near those of trained weights, and nothing is
said about fidelity. bhk/sam/ratios.json, which `bhk models` shows, is written from results/family.csv.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import bhk
from bhk.sam.variants import VARIANTS
from tools.bench.frame.benchmark import Benchmark, Row, Rows, Run
from tools.bench.frame.results import ROOT
from tools.bench.models.synthetic import STATE_DICTS, make

RATIOS = ROOT / "bhk" / "sam" / "ratios.json"
# Variants with the shapes of another one. MobileSAMv2 is measured with its largest image encoder, that of SAM-H.
SHAPES = {"medsam": "sam_vit_b", "mobile_sam_v2_vit_h": "sam_vit_h"}


def cases(run: Run) -> list[str]:
    """Return the variants whose shapes are known."""
    known = [name for name in VARIANTS if (STATE_DICTS / f"{SHAPES.get(name, name)}.json").exists()]
    return ["mobile_sam"] if run.quick else known


def measure(variant: str, run: Run) -> Rows:
    converted = _converted(SHAPES.get(variant, variant), run.folder)
    return [{"variant": variant, "published_ratio": VARIANTS[variant].published_ratio, **converted}]


@functools.cache
def _converted(shapes: str, folder: Path) -> Row:
    """Convert a synthetic checkpoint of these shapes."""
    source, target = folder / "model.pth", folder / "model.bhk"
    make(shapes, source)
    report = bhk.convert(source, target, force=True)
    source.unlink()
    return {
        "shapes": shapes,
        "preset": "balanced",
        "dense_bytes": report.source_bytes,
        "bytes": report.bytes,
        "ratio": f"{report.ratio:.3f}",
        "seconds": f"{report.seconds:.2f}",
    }


def write_ratios(rows: Rows) -> None:
    ratios = {str(row["variant"]): round(float(str(row["ratio"])), 2) for row in rows}
    RATIOS.write_text(json.dumps(ratios, indent=2) + "\n", encoding="utf-8")


BENCHMARK = Benchmark(
    cases,
    measure,
    case="variant",
    figures="published_ratio shapes preset dense_bytes bytes ratio seconds",
    csv="family",
    finish=write_ratios,
)
