"""Fill the tables of README.md, docs and kernels from tools/bench/results/; with --check, only say whether they are current."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable
from pathlib import Path

from bhk.sam.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ("README.md", "docs/measurements.md", "kernels/README.md")
RESULTS = ROOT / "tools" / "bench" / "results"

Rows = list[dict[str, str]]


def minilm(rows: Rows) -> list[str]:
    """Return the fidelity table, one line a coder and setting, by ratio."""
    lines = ["| coder | setting | ratio | mean 1 - cos | largest 1 - cos |", "|---|---|--:|--:|--:|"]
    for row in sorted((row for row in rows if row["ratio"]), key=lambda row: float(row["ratio"])):
        cells = [row["coder"], row["setting"], f"{float(row['ratio']):.2f}"]
        lines.append(_line([*cells, row["mean_1_minus_cos"], row["max_1_minus_cos"]], bold=_is_bhk(row)))
    return lines


def conversion(rows: Rows) -> list[str]:
    """Return the speed table, one line a checkpoint, task and tool, in the order measured."""
    lines = [
        "| checkpoint | task | tool | ratio | seconds | MB/s | peak memory, MiB | how |",
        "|---|---|---|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        is_conversion = row["task"] == "convert"
        ratio = f"{int(row['input_bytes']) / int(row['output_bytes']):.2f}" if is_conversion else ""
        cells = [row["checkpoint"], row["task"], row["tool"], ratio, f"{float(row['seconds']):.2f}"]
        line = _line([*cells, row["mb_per_second"], row["peak_anon_mib"]], bold=row["tool"] == "bhk")
        lines.append(f"{line} {row['note']} |")
    return lines


def sam(rows: Rows) -> list[str]:
    """Return the table of a whole model, one line a way to run it."""
    lines = [
        "| SAM-B | encoder | one prompt | 32 prompts | linear weights | peak | mask IoU, mean | smallest | error of logits |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [row["side"]]
        cells += [
            f"{float(row[f'{part}_s']):.3g} s ({row[f'{part}_ratio']})" for part in ("encoder", "prompt", "prompts")
        ]
        cells += [
            f"{100 * float(row['linear_share']):.1f} %",
            f"{row['load_peak_mib']} MiB",
            row["iou_mean"],
            row["iou_min"],
            row["logits_error"],
        ]
        lines.append(_line(cells, bold=row["side"] != "dense"))
    return lines


def hyperlinear(rows: Rows) -> list[str]:
    """Return the table of single layers, one line a shape and number of rows."""
    lines = ["| in | out | rows | nn.Linear | exact | int8 |", "|--:|--:|--:|--:|--:|--:|"]
    for (features, out, count, *_), sides in _cases(rows).items():
        cells = [
            f"{float(sides[side]['ms']):.3g} ({float(sides[side]['ms']) / float(sides['dense']['ms']):.2f})"
            for side in ("exact", "int8")
        ]
        lines.append(_line([features, out, count, f"{float(sides['dense']['ms']):.3g}", *cells], bold=False))
    return lines


def _cases(rows: Rows) -> dict[tuple[str, ...], dict[str, dict[str, str]]]:
    """Return the rows of each layer and input, by their side."""
    cases: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for row in rows:
        case = tuple(row[name] for name in ("in", "out", "rows", "dtype", "cache"))
        cases.setdefault(case, {})[row["side"]] = row
    return cases


def layers_on_card(rows: Rows) -> list[str]:
    """Return the table of layers on a card beside their floor, one line a side."""
    lines = [
        "| in | out | rows | numbers | weights in L2 | layer | MB | GFLOP | floor, µs | µs | share of the floor | speed |",
        "|--:|--:|--:|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        times = [f"{1e3 * float(row[name]):.3g}" for name in ("floor_ms", "ms")]
        cells = [
            row["in"],
            row["out"],
            row["rows"],
            row["dtype"],
            "no" if row["cache"] == "cold" else "yes",
            row["side"],
        ]
        cells += [row["megabytes"], row["gigaflop"], *times, f"{float(row['share']):.2f}", f"{float(row['speed']):.2f}"]
        lines.append(_line(cells, bold=row["side"] in ("exact", "int8")))
    return lines


def ceilings(rows: Rows) -> list[str]:
    """Return the table of what a card reaches."""
    lines = ["| what | TB/s or TFLOP/s |", "|---|--:|"]
    return lines + [_line([row["what"], f"{float(row['per_second']) / 1e12:.3g}"], bold=False) for row in rows]


def encoders(rows: Rows) -> list[str]:
    """Return the table of encoders and decoders on a card, one line a side; what failed is left out."""
    lines = [
        "| model | part | batch | run | numbers | linear layers | ms | speed | peak, MiB | linear weights | error |",
        "|---|---|--:|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        if row["ms"]:
            share = f"{100 * float(row['linear_share']):.1f} %"
            cells = [row["model"], row["part"], row["batch"], row["how"], row["dtype"], row["side"]]
            cells += [f"{float(row['ms']):.4g}", row["speed"], row["peak_mib"], share, row["error"]]
            lines.append(_line(cells, bold=row["side"] != "dense"))
    return lines


def card_loading(rows: Rows) -> list[str]:
    """Return the table of loading on a card, one line a kind of file."""
    lines = [
        "| model | from | MiB | seconds to load | to the first mask | peak on the card, MiB | peak of the host, MiB |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [VARIANTS[row["variant"]].title, row["side"], row["file_mib"], row["seconds_load"]]
        cells += [row["seconds_first_mask"], row["peak_mib"], row["host_peak_mib"]]
        lines.append(_line(cells, bold=row["side"].startswith("bhk")))
    return lines


def host_time(rows: Rows) -> list[str]:
    """Return the table of what calls cost on the host, one line a kind of call."""
    lines = ["| call | µs | with Triton's own launching, µs |", "|---|--:|--:|"]
    return lines + [_line([row["call"], row["us"], row["triton_us"]], bold=False) for row in rows]


def family(rows: Rows) -> list[str]:
    """Return the table of the family, one line a model."""
    lines = ["| model | bhk | published method |", "|---|--:|--:|"]
    for row in rows:
        cells = [VARIANTS[row["variant"]].title, f"{float(row['ratio']):.2f}", row["published_ratio"] or "–"]
        lines.append(_line(cells, bold=False))
    return lines


def demo_sam(rows: Rows) -> list[str]:
    """Return the table of the demo SAM, one line a coder and setting, by ratio; drops with their intervals."""
    lines = [
        "| coder | setting | ratio | box mIoU lost, % | point mIoU lost, % | box mask IoU | point mask IoU |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in sorted((row for row in rows if row["ratio"]), key=lambda row: float(row["ratio"])):
        drops = [
            "{:.2f} ({:.2f} … {:.2f})".format(*(float(row[f"{kind}_drop{end}"]) for end in ("", "_low", "_high")))
            for kind in ("box", "point")
        ]
        cells = [row["coder"], row["setting"], f"{float(row['ratio']):.2f}", *drops, row["box_iou"], row["point_iou"]]
        lines.append(_line(cells, bold=_is_bhk(row)))
    return lines


def _is_bhk(row: dict[str, str]) -> bool:
    return row["coder"].startswith("bhk")


def as_close_as_published(rows: Rows, loss: Callable[[dict[str, str]], tuple[float, ...]]) -> Rows:
    """Return of each coder the smallest file that has lost no more than the published method; its closest where all have.

    Args:
        loss: what a row has lost, by each measure.
    """
    allowed = next(loss(row) for row in rows if row["coder"] == "published method")
    chosen = []
    for coder in dict.fromkeys(row["coder"] for row in rows):
        measured = sorted(
            (row for row in rows if row["coder"] == coder and row["ratio"]), key=lambda row: float(row["ratio"])
        )
        close = [row for row in measured if all(a <= b for a, b in zip(loss(row), allowed, strict=True))]
        chosen += close[-1:] or measured[:1]
    return chosen


def calibration_sam(rows: Rows) -> list[str]:
    """Return the table of a SAM at the published method's fidelity, one line a coder and what it is shown."""
    return demo_sam(as_close_as_published(rows, lambda row: (-float(row["box_iou"]), -float(row["point_iou"]))))


def calibration_minilm(rows: Rows) -> list[str]:
    """Return the table of MiniLM at the published method's fidelity, one line a coder and what it is shown."""
    return minilm(as_close_as_published(rows, lambda row: (float(row["mean_1_minus_cos"]),)))


def transformers_loading(rows: Rows) -> list[str]:
    """Return the table of loading by transformers, one line a kind of weight file."""
    lines = [
        "| weight file | MiB | seconds | peak after loading, MiB | peak once weights are read, MiB | error of mask logits |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = ["`model.bhk`" if row["side"] == "bhk" else "`model.safetensors`"]
        cells += [row["file_mib"], row["load_s"], row["load_peak_mib"], row["read_peak_mib"], row["masks_error"]]
        lines.append(_line(cells, bold=row["side"] == "bhk"))
    return lines


TABLES = {
    "minilm": minilm,
    "demo_sam": demo_sam,
    "calibration_demo_sam": calibration_sam,
    "calibration_held_out_sam": calibration_sam,
    "calibration_minilm": calibration_minilm,
    "conversion": conversion,
    "sam_cpu": sam,
    "hyperlinear_cpu": hyperlinear,
    "family": family,
    "host_time_cpu": host_time,
    "transformers_loading": transformers_loading,
}
CARD = "nvidia_h200"
OF_CARD = {"ceilings": ceilings, "hyperlinear": layers_on_card, "encoders": encoders, "card_loading": card_loading}
TABLES |= {f"{name}_{CARD}": table for name, table in OF_CARD.items()}
NOT_YET = "Not measured yet: `make test-gpu` on such a card writes the CSV file that this is made from."


def _line(cells: list[str], bold: bool) -> str:
    return "| " + " | ".join(f"**{cell}**" if bold and cell else cell for cell in cells) + " |"


def fill(text: str) -> str:
    """Return `text` with every generated region replaced by its table; raises ValueError for an unknown region."""

    def table(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES:
            raise ValueError(f"there is a generated region {name!r}; known are {', '.join(TABLES)}")
        path = RESULTS / f"{name}.csv"
        if name.endswith(CARD) and not path.exists():
            lines = [NOT_YET]
        else:
            with path.open(newline="", encoding="utf-8") as file:
                lines = TABLES[name](list(csv.DictReader(file)))
        return "\n".join([f"<!-- generated:{name} -->", *lines, "<!-- /generated -->"])

    return re.sub(r"<!-- generated:(\w+) -->.*?<!-- /generated -->", table, text, flags=re.DOTALL)


def main() -> int:
    stale = []
    for name in TEXTS:
        path = ROOT / name
        try:
            text = path.read_text(encoding="utf-8")
            filled = fill(text)
        except (OSError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        if filled == text:
            continue
        if "--check" in sys.argv[1:]:
            stale.append(name)
        else:
            path.write_text(filled, encoding="utf-8")
    if stale:
        print(f"{', '.join(stale)}: tables differ from tools/bench/results/: run make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
