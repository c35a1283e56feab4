"""Ratio and time of converting every model of the family: `python -m tools.bench.family [variant ...]`.

Each is a synthetic checkpoint of the true names and shapes (tools/bench/synthetic.py), converted with the default preset and
deleted before the next one. Weights are synthetic: ratios come near those of trained weights, and nothing is said about
fidelity. Rows of variants that are not named stay as they are in results/family.csv, from which bhk/sam/ratios.json, what
`bhk models` shows, is written.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import bhk
from bhk.sam.variants import VARIANTS
from tools.bench.frame.results import RESULTS, ROOT, Row, environment, read_csv, show, write_csv
from tools.bench.models.synthetic import STATE_DICTS, make

NAME = "family"
RATIOS = ROOT / "bhk" / "sam" / "ratios.json"
# Variants with the shapes of another one. MobileSAMv2 is measured with its largest image encoder, that of SAM-H.
SHAPES = {"medsam": "sam_vit_b", "mobile_sam_v2": "sam_vit_h"}
SHOWN = ("variant", "shapes", "dense_bytes", "bytes", "ratio", "published_ratio", "seconds")


def measurable() -> list[str]:
    """Return the variants whose shapes are known."""
    return [name for name in VARIANTS if (STATE_DICTS / f"{SHAPES.get(name, name)}.json").exists()]


def measure(shapes: str) -> dict[str, object]:
    """Convert a synthetic checkpoint of these shapes."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.pth"
        make(shapes, source)
        report = bhk.convert(source, Path(folder) / "model.bhk")
    return {
        "shapes": shapes,
        "preset": "balanced",
        "dense_bytes": report.source_bytes,
        "bytes": report.bytes,
        "ratio": round(report.ratio, 3),
        "seconds": round(report.seconds, 2),
    }


def run(names: list[str]) -> list[Row]:
    """Measure the variants `names`, and return the rows of all that have been measured."""
    rows: dict[str, Row] = {row["variant"]: row for row in read_csv(NAME)} if (RESULTS / f"{NAME}.csv").exists() else {}
    measured: dict[str, dict[str, object]] = {}
    where = environment()
    for name in names:
        shapes = SHAPES.get(name, name)
        if shapes not in measured:
            measured[shapes] = measure(shapes)
        published = VARIANTS[name].published_ratio
        rows[name] = {"variant": name, "published_ratio": published, **measured[shapes], **where}
        print(f"{name}: {measured[shapes]['ratio']} times smaller, {measured[shapes]['seconds']} s", flush=True)
    return [rows[name] for name in VARIANTS if name in rows]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.family", description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", metavar="variant", help="as `bhk models` names them; all by default")
    names = parser.parse_args().variants or measurable()
    if unknown := sorted(set(names) - set(measurable())):
        parser.error(f"no shapes are known of {', '.join(unknown)}; choose from {', '.join(measurable())}")
    rows = run(names)
    write_csv(NAME, rows)
    ratios = {str(row["variant"]): round(float(str(row["ratio"])), 2) for row in rows}
    RATIOS.write_text(json.dumps(ratios, indent=2) + "\n", encoding="utf-8")
    show(rows, SHOWN)


if __name__ == "__main__":
    main()
