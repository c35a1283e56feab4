"""Fill in the tables and figures of README.md, docs and kernels/README.md from tools/bench/results/.

`python -m tools.result_tables` writes; `--check` exits with 1 when a text differs from the CSV files.
"""

from __future__ import annotations

import csv
import math
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from bhk.sam.allocation import PARTS
from bhk.sam.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ("README.md", "kernels/README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
RESULTS = ROOT / "tools" / "bench" / "results"

# Parts of a SAM: linear layers in the blocks of the image encoder, and the weights on which the masks depend most.
BLOCKS = tuple(part for part in PARTS if part.title.startswith(("encoder: attention", "encoder: MLP")))
DELICATE = tuple(
    part
    for part in PARTS
    if part.title.startswith(("decoder: attention", "decoder: upscaling", "decoder: hypernetworks, last layer"))
)

Rows = list[dict[str, str]]


def minilm(rows: Rows) -> list[str]:
    """Return the fidelity table, one line a coder and setting, by ratio."""
    lines = ["| coder | setting | ratio | mean 1 - cos | largest 1 - cos |", "|---|---|--:|--:|--:|"]
    for row in sorted((row for row in rows if row["ratio"]), key=lambda row: float(row["ratio"])):
        cells = [row["coder"], row["setting"], f"{float(row['ratio']):.2f}"]
        lines.append(_line([*cells, row["mean_1_minus_cos"], row["max_1_minus_cos"]], bold=_is_bhk(row)))
    return lines


def _mb(mib: str) -> str:
    """Return a number of MiB, as the result files have them, in MB of 10^6 bytes; an empty text stays empty."""
    return mib and f"{float(mib) * 1.048576:.0f}"


def conversion(rows: Rows) -> list[str]:
    """Return the speed table, one line a checkpoint, task and tool, in the order measured."""
    lines = [
        "| checkpoint | task | tool | file, MB | seconds | MB/s | peak memory, MB | how |",
        "|---|---|---|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        size = f"{int(row['output_bytes']) / 1e6:.1f}" if row["task"] == "convert" else ""
        cells = [row["checkpoint"], row["task"], row["tool"], size, f"{float(row['seconds']):.2f}"]
        line = _line([*cells, row["mb_per_second"], _mb(row["peak_anon_mib"])], bold=row["tool"] == "bhk")
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
            f"{_mb(row['load_peak_mib'])} MB",
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


def layers_on_gpu(rows: Rows) -> list[str]:
    """Return the table of layers on a GPU compared with their floor, one line a side."""
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
    """Return the table of what a GPU reaches."""
    lines = ["| what | TB/s or TFLOP/s |", "|---|--:|"]
    return lines + [_line([row["what"], f"{float(row['per_second']) / 1e12:.3g}"], bold=False) for row in rows]


def encoders(rows: Rows) -> list[str]:
    """Return the table of encoders and decoders on a GPU, one line a side; what failed is left out."""
    lines = [
        "| model | part | batch | run | numbers | linear layers | ms | speed | peak, MB | linear weights | error |",
        "|---|---|--:|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        if row["ms"]:
            share = f"{100 * float(row['linear_share']):.1f} %"
            cells = [row["model"], row["part"], row["batch"], row["how"], row["dtype"], row["side"]]
            cells += [f"{float(row['ms']):.4g}", row["speed"], _mb(row["peak_mib"]), share, row["error"]]
            lines.append(_line(cells, bold=row["side"] != "dense"))
    return lines


def gpu_loading(rows: Rows) -> list[str]:
    """Return the table of loading on a GPU, one line a kind of file."""
    lines = [
        "| model | from | MB | seconds to load | to the first mask | peak on the GPU, MB | peak of the host, MB |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [VARIANTS[row["variant"]].title, row["side"], _mb(row["file_mib"]), row["seconds_load"]]
        cells += [row["seconds_first_mask"], _mb(row["peak_mib"]), _mb(row["host_peak_mib"])]
        lines.append(_line(cells, bold=row["side"].startswith("bhk")))
    return lines


def sizes(rows: Rows) -> list[str]:
    """Return the table of the demo's sizes as `make demo` shows them, one line a preset."""
    lines = ["| preset | bytes | ratio |", "|---|--:|--:|"]
    return lines + [
        _line([row["setting"], f"{int(row['bytes']):,}", f"{float(row['ratio']):.2f}"], bold=False)
        for row in rows
        if row["checkpoint"] == "make demo"
    ]


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
    """Return each coder's smallest file that loses no more than the published method, or its closest if none does.

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


def next_bits(rows: Rows) -> list[str]:
    """Return the table of the study: a line an idea and level, with its bytes compared with those of bhk at equal masks."""
    lines = ["| idea | bytes | box mask IoU | point mask IoU | bytes at equal masks |", "|---|--:|--:|--:|--:|"]
    first, second = (
        (math.log(1 - _iou(row)), math.log(int(row["bytes"]))) for row in rows if "as bhk" in row["setting"]
    )
    slope = (second[1] - first[1]) / (second[0] - first[0])
    for row in rows:
        expected = math.exp(first[1] + slope * (math.log(1 - _iou(row)) - first[0]))
        change = 100 * (int(row["bytes"]) / expected - 1)
        cells = [row["setting"], f"{int(row['bytes']):,}", row["box_iou"], row["point_iou"], f"{change:+.1f} %"]
        lines.append(_line(cells, bold=False))
    return lines


def transformers_loading(rows: Rows) -> list[str]:
    """Return the table of loading by transformers, one line a kind of weight file."""
    lines = [
        "| weight file | MB | seconds | peak after loading, MB | peak once weights are read, MB | error of mask logits |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = ["`model.bhk`" if row["side"] == "bhk" else "`model.safetensors`"]
        cells += [_mb(row["file_mib"]), row["load_s"]]
        cells += [_mb(row["load_peak_mib"]), _mb(row["read_peak_mib"]), row["masks_error"]]
        lines.append(_line(cells, bold=row["side"] == "bhk"))
    return lines


def headline() -> list[str]:
    """Return the three figures at the top of the README, as a list."""
    size = _row("family", variant="sam_vit_b")
    plain = _row("calibration_demo_sam", coder="bhk", setting="balanced")
    shown = _row("calibration_demo_sam", coder="bhk, dead leaves", setting="balanced")
    published = _row("calibration_demo_sam", coder="published method")
    memory = _row("sam_cpu", side="exact")
    iou = _two_decimals(_iou(row) for row in (plain, shown, published))
    dense, small = (int(size[column]) / 1e6 for column in ("dense_bytes", "bytes"))
    return [
        f"- **{float(size['ratio']):.1f} times smaller.** SAM-B shrinks from {dense:.0f} MB to {small:.0f} MB in "
        f"{convert_seconds('sam_vit_b')} seconds on two CPU cores (synthetic weights of the true shapes).",
        f"- **Nearly the same masks.** At a ratio of {float(plain['ratio']):.1f}, and with calibration at "
        f"{float(shown['ratio']):.1f}, the masks of a small trained SAM have an IoU of {iou} with the original's, for a box "
        f"around or a point in each object ({plain['objects']} objects in {plain['scenes']} pictures it never saw). The "
        f"published method reaches that IoU at a ratio of {float(published['ratio']):.1f}.",
        f"- **A quarter of the memory for linear layers.** SAM-B runs from its codes on a CPU with "
        f"{100 * float(memory['linear_share']):.0f} % of the memory for their weights, and gives the same results as the "
        "decoded weights.",
    ]


def demo_masks() -> list[str]:
    """Return the table with the pictures of masks before and after."""
    original, *others = _rows("demo_masks")
    titles = {"balanced": "", "calibrated": ", calibrated"}
    heads = [f"original as float32, {_megabytes(original)}"]
    cells = [_picture("masks of the original weights", "original")]
    for row in others:
        ratio = f"{float(row['ratio']):.1f} times smaller{titles[row['file']]}"
        heads.append(f"{ratio}, {_megabytes(row)}")
        cells.append(_picture(f"masks of the file that is {ratio}", row["file"]))
    captions = ["", *(f"IoU with the original {float(row['iou']):.3f}" for row in others)]
    return [_line(heads, bold=False), "|---|---|---|", _line(cells, bold=False), _line(captions, bold=False)]


def _picture(description: str, name: str) -> str:
    return f"![{description}](docs/images/masks_{name}.webp)"


def _megabytes(row: dict[str, str]) -> str:
    return f"{int(row['bytes']) / 1e6:.1f} MB"


def _iou(row: dict[str, str]) -> float:
    return (float(row["box_iou"]) + float(row["point_iou"])) / 2


def _two_decimals(values: Iterable[float]) -> str:
    """Return numbers that agree to two decimals."""
    texts = {f"{value:.2f}" for value in values}
    if len(texts) > 1:
        raise ValueError(f"the README says one number for {', '.join(sorted(texts))}")
    return texts.pop()


def _rows(name: str) -> Rows:
    with (RESULTS / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _row(name: str, **values: str) -> dict[str, str]:
    """Return the only row of a CSV file with these values."""
    (found,) = (row for row in _rows(name) if all(row[column] == value for column, value in values.items()))
    return found


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
    "sizes": sizes,
    "host_time_cpu": host_time,
    "transformers_loading": transformers_loading,
    "next_bits_demo_sam": next_bits,
}
GPU = "nvidia_h200"
NOT_YET = "The kernels have not been timed on a GPU yet. `make test-gpu` does that, and `make docs` then puts the tables here."
MEASURED = (
    "These tables are for an NVIDIA H200, from the files in [tools/bench/results/](../tools/bench/results/) that"
    " `make test-gpu` writes."
)
# The tables of a GPU, and what is said above each.
OF_GPU: dict[str, tuple[str, Callable[[Rows], list[str]]]] = {
    "ceilings": ("What the GPU reaches:", ceilings),
    "hyperlinear": (
        "Single layers. The floor is the time to move the layer's bytes at the first of these rates, or the time for its"
        ' operations at the rate of its kind of number, whichever is longer. "Speed" is the time of `nn.Linear` in the'
        " same run over the layer's time.",
        layers_on_gpu,
    ),
    "encoders": ("Image encoders and mask decoders:", encoders),
    "gpu_loading": ("From a file to the first mask:", gpu_loading),
}


def on_gpu() -> list[str]:
    """Return the tables of a GPU as far as they were measured, or a sentence that says that none was."""
    lines = []
    for name, (title, table) in OF_GPU.items():
        if (RESULTS / f"{name}_{GPU}.csv").exists():
            lines += ["", title, "", *table(_rows(f"{name}_{GPU}"))]
    return [MEASURED, *lines] if lines else [NOT_YET]


def _line(cells: list[str], bold: bool) -> str:
    return "| " + " | ".join(f"**{cell}**" if bold and cell else cell for cell in cells) + " |"


LISTS = {"headline": headline, "demo_masks": demo_masks, "on_gpu": on_gpu}


def family_range() -> str:
    """Return the smallest and the largest ratio of the family, rounded."""
    ratios = [float(row["ratio"]) for row in _rows("family")]
    return f"{min(ratios):.0f} to {max(ratios):.0f}"


def prompt_time() -> str:
    """Return how many times as long a single prompt takes as with dense weights."""
    return f"{float(_row('sam_cpu', side='exact')['prompt_ratio']):.1f}"


def convert_seconds(variant: str) -> str:
    """Return how many seconds the conversion of a model of the family takes."""
    return f"{float(_row('family', variant=variant)['seconds']):.0f}"


def finer_steps() -> str:
    """Return how many times finer the steps of the weights are on which masks depend most, than those of the blocks."""
    finest, coarsest = ([part.finer_db for part in parts] for parts in (DELICATE, BLOCKS))
    decibels = min(finest) - max(coarsest), max(finest) - min(coarsest)
    return " to ".join(f"{10 ** (distance / 20):.0f}" for distance in decibels)


FIGURES: dict[str, Callable[[], str]] = {  # within a sentence
    "finer_steps": finer_steps,
    "family_range": family_range,
    "prompt_time": prompt_time,
    "sam_b_seconds": partial(convert_seconds, "sam_vit_b"),
    "sam_h_seconds": partial(convert_seconds, "sam_vit_h"),
}


def region(name: str) -> list[str]:
    """Return the lines of a generated region; raises ValueError for an unknown one."""
    if name in LISTS:
        return LISTS[name]()
    if name not in TABLES:
        raise ValueError(f"there is a generated region {name!r}; known are {', '.join([*TABLES, *LISTS])}")
    return TABLES[name](_rows(name))


def fill(text: str) -> str:
    """Return `text` with every generated region filled in anew; raises ValueError for an unknown region."""

    def filled(match: re.Match[str]) -> str:
        return "\n".join([f"<!-- generated:{match[1]} -->", *region(match[1]), "<!-- /generated -->"])

    def figure(match: re.Match[str]) -> str:
        if match[1] not in FIGURES:
            raise ValueError(f"there is a figure {match[1]!r}; known are {', '.join(FIGURES)}")
        return f"<!-- figure:{match[1]} -->{FIGURES[match[1]]()}<!-- /figure -->"

    text = re.sub(r"<!-- generated:(\w+) -->.*?<!-- /generated -->", filled, text, flags=re.DOTALL)
    return re.sub(r"<!-- figure:(\w+) -->.*?<!-- /figure -->", figure, text)


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
