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
from tools import attack_tables, model_table, scale_table, speed_tables
from tools.speed_tables import Rows, line, mb

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


def minilm(rows: Rows) -> list[str]:
    """Return the fidelity table, one line a coder and setting, by ratio."""
    lines = ["| coder | setting | ratio | mean 1 - cos | largest 1 - cos |", "|---|---|--:|--:|--:|"]
    for row in sorted((row for row in rows if row["ratio"]), key=lambda row: float(row["ratio"])):
        cells = [row["coder"], row["setting"], f"{float(row['ratio']):.2f}"]
        lines.append(line([*cells, row["mean_1_minus_cos"], row["max_1_minus_cos"]], bold=_is_bhk(row)))
    return lines


def sizes(rows: Rows) -> list[str]:
    """Return the table of the demo's sizes as `make demo` shows them, one line a preset."""
    lines = ["| preset | bytes | ratio |", "|---|--:|--:|"]
    return lines + [
        line([row["setting"], f"{int(row['bytes']):,}", f"{float(row['ratio']):.2f}"], bold=False)
        for row in rows
        if row["checkpoint"] == "make demo"
    ]


def family(rows: Rows) -> list[str]:
    """Return the table of the family, one line a model."""
    lines = ["| model | bhk | published method |", "|---|--:|--:|"]
    for row in rows:
        cells = [VARIANTS[row["variant"]].title, f"{float(row['ratio']):.2f}", row["published_ratio"] or "–"]
        lines.append(line(cells, bold=False))
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
        lines.append(line(cells, bold=_is_bhk(row)))
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
        lines.append(line(cells, bold=False))
    return lines


def headline() -> list[str]:
    """Return the three figures at the top of the README, as a list."""
    size = _row("family", variant="sam_vit_b")
    plain = _row("calibration_demo_sam", coder="bhk", setting="balanced")
    shown = _row("calibration_demo_sam", coder="bhk, dead leaves", setting="balanced")
    published = _row("calibration_demo_sam", coder="published method")
    dense_model, exact = (_row("sam_cpu", model="SAM-B", side=side) for side in ("dense", "bhk exact"))
    iou = _two_decimals(_iou(row) for row in (plain, shown, published))
    dense, small = (int(size[column]) / 1e6 for column in ("dense_bytes", "bytes"))
    return [
        f"- **{float(size['ratio']):.1f} times smaller.** SAM-B shrinks from {dense:.0f} MB to {small:.0f} MB in "
        f"{convert_seconds('sam_vit_b')} seconds on two CPU cores (synthetic weights of the true shapes).",
        f"- **Nearly the same masks.** At a ratio of {float(plain['ratio']):.1f}, and with calibration at "
        f"{float(shown['ratio']):.1f}, the masks of a small trained SAM have an IoU of {iou} with the original's, for a box "
        f"around or a point in each object ({plain['objects']} objects in {plain['scenes']} pictures it never saw). The "
        f"published method reaches that IoU at a ratio of {float(published['ratio']):.1f}.",
        f"- **{1 / float(exact['encoder_ratio']):.1f} times as fast on a CPU.** SAM-B's image encoder takes "
        f"{100 * float(exact['encoder_ratio']):.0f} % of the time of `segment_anything` on two cores, and "
        f"{100 * float(exact['peak_mib']) / float(dense_model['peak_mib']):.0f} % of the memory, for the same masks.",
    ]


def encoder_speed() -> list[str]:
    """Return the table of SAM-B's image encoder on a CPU, the fastest first.

    What failed is left out, and so is the dense model with bhk's attention, which other tables have.
    """
    sides = [row for row in _rows("sam_cpu") if row["model"] == "SAM-B" and row["encoder_s"]]
    rows = [row for row in sides if row["side"] != "bhk attention"]
    lines = ["| SAM-B's image encoder | seconds | of dense | peak memory, MB |", "|---|--:|--:|--:|"]
    for row in sorted(rows, key=lambda row: float(row["encoder_ratio"])):
        cells = [
            row["side"],
            f"{float(row['encoder_s']):.2g}",
            f"{float(row['encoder_ratio']):.2f}",
            mb(row["peak_mib"]),
        ]
        lines.append(line(cells, bold=row["side"].startswith("bhk")))
    return lines


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
    return [line(heads, bold=False), "|---|---|---|", line(cells, bold=False), line(captions, bold=False)]


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


def _rows_if_measured(name: str) -> Rows:
    """Return the rows of a file; none if there is no such file."""
    return _rows(name) if (RESULTS / f"{name}.csv").exists() else []


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
    "conversion": speed_tables.conversion,
    "sam_cpu": speed_tables.sam,
    "predictors_cpu": speed_tables.predictors,
    "onnx_cpu": speed_tables.onnx,
    "hyperlinear_cpu": speed_tables.hyperlinear,
    "family": family,
    "sizes": sizes,
    "host_time_cpu": speed_tables.host_time,
    "transformers_loading": speed_tables.transformers_loading,
    "next_bits_demo_sam": next_bits,
    "corruption": attack_tables.corruption,
    "fuzzing": attack_tables.fuzzing,
    "robustness_faults": attack_tables.faults,
    "robustness_disturbances": attack_tables.disturbances,
    "robustness_load": attack_tables.load,
    "robustness_large": attack_tables.large,
}
GPU = "nvidia_h200"
NOT_YET = "The kernels have not been timed on a GPU yet. `make test-gpu` does that, and `make docs` then puts the tables here."
MEASURED = (
    "These tables are for an NVIDIA H200, from the files in [tools/bench/results/](../tools/bench/results/) that"
    " `make test-gpu` writes."
)
# The tables of a GPU, and what is said above each.
OF_GPU: dict[str, tuple[str, Callable[[Rows], list[str]]]] = {
    "ceilings": ("What the GPU reaches:", speed_tables.ceilings),
    "hyperlinear": (
        "Single layers. The floor is the time to move the layer's bytes at the first of these rates, or the time for its"
        ' operations at the rate of its kind of number, whichever is longer. "Speed" is the time of `nn.Linear` in the'
        " same run over the layer's time.",
        speed_tables.layers_on_gpu,
    ),
    "encoders": ("Image encoders and mask decoders:", speed_tables.encoders),
    "gpu_loading": ("From a file to the first mask:", speed_tables.gpu_loading),
}


def on_gpu() -> list[str]:
    """Return the tables of a GPU as far as they were measured, or a sentence that says that none was."""
    lines = []
    for name, (title, table) in OF_GPU.items():
        if (RESULTS / f"{name}_{GPU}.csv").exists():
            lines += ["", title, "", *table(_rows(f"{name}_{GPU}"))]
    return [MEASURED, *lines] if lines else [NOT_YET]


LISTS: dict[str, Callable[[], list[str]]] = {
    "headline": headline,
    "demo_masks": demo_masks,
    "encoder_speed": encoder_speed,
    "on_gpu": on_gpu,
    "scale": lambda: scale_table.scale(_rows("sam_cpu")),
    "scale_cores": lambda: scale_table.cores(_rows("sam_cpu")),
    "scale_merging": lambda: scale_table.merging(_rows_if_measured("merge")),
    "scale_throughput": lambda: scale_table.throughput(_rows_if_measured("cluster")),
    "scale_uneven": lambda: scale_table.uneven(_rows("sam_cpu")),
    "models": lambda: model_table.models(_rows("masks"), _rows("family"), _rows("relatives")),
    "encoders_on_cpu": lambda: speed_tables.encoders_on_cpu(_rows("sam_cpu")),
}


def family_range() -> str:
    """Return the smallest and the largest ratio of the family, rounded."""
    ratios = [float(row["ratio"]) for row in _rows("family")]
    return f"{min(ratios):.0f} to {max(ratios):.0f}"


def convert_seconds(variant: str) -> str:
    """Return how many seconds the conversion of a model of the family takes."""
    return f"{float(_row('family', variant=variant)['seconds']):.0f}"


def finer_steps() -> str:
    """Return how many times finer the steps of the weights are on which masks depend most, than those of the blocks."""
    finest, coarsest = ([part.finer_db for part in parts] for parts in (DELICATE, BLOCKS))
    decibels = min(finest) - max(coarsest), max(finest) - min(coarsest)
    return " to ".join(f"{10 ** (distance / 20):.0f}" for distance in decibels)


def sam_processor() -> str:
    """Return the processor on which whole models were measured, its cores and its instructions for small numbers."""
    return _row("sam_cpu", model="SAM-B", side="dense")["cpu"]


FIGURES: dict[str, Callable[[], str]] = {  # within a sentence
    "finer_steps": finer_steps,
    "family_range": family_range,
    "sam_processor": sam_processor,
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
