"""Tables of time and memory, from the rows of result files; `tools.result_tables` puts them into the texts."""

from __future__ import annotations

from bhk.sam.variants import VARIANTS

Rows = list[dict[str, str]]


def conversion(rows: Rows) -> list[str]:
    """Return the speed table, one line a checkpoint, task and tool, in the order measured."""
    lines = [
        "| checkpoint | task | tool | file, MB | seconds | MB/s | peak memory, MB | how |",
        "|---|---|---|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        size = f"{int(row['output_bytes']) / 1e6:.1f}" if row["task"] == "convert" else ""
        cells = [row["checkpoint"], row["task"], row["tool"], size, f"{float(row['seconds']):.2f}"]
        cells += [row["mb_per_second"], mb(row["peak_anon_mib"])]
        lines.append(f"{line(cells, bold=row['tool'] == 'bhk')} {row['note']} |")
    return lines


def sam(rows: Rows) -> list[str]:
    """Return the table of a whole SAM-B, one line a way to run all of it."""
    lines = [
        "| SAM-B | encoder, s | one prompt, s | 32 prompts, s | file to first mask, s | peak, MB | linear weights "
        "| mask IoU, mean | smallest | error |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        if row["model"] == "SAM-B" and row["first_mask_s"]:
            cells = [row["side"]]
            cells += [_with_ratio(row, part) for part in ("encoder", "prompt", "prompts", "first_mask")]
            cells += [mb(row["peak_mib"]), f"{100 * float(row['linear_share']):.1f} %"]
            cells += [row["iou_mean"], row["iou_min"], row["error"]]
            lines.append(line(cells, bold=row["side"].startswith("bhk")))
    return lines


def _with_ratio(row: dict[str, str], part: str) -> str:
    return f"{float(row[f'{part}_s']):.3g} ({float(row[f'{part}_ratio']):.2f})"


def encoders_on_cpu(rows: Rows) -> list[str]:
    """Return the table of image encoders on a CPU, one line a model and side; what failed has a dash."""
    lines = [
        "| model | run by | seconds | of dense | floor, s | peak, MB | of dense | error |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        dense = next(other for other in rows if other["model"] == row["model"] and other["side"] == "dense")
        peak = row["peak_mib"] and f"{float(row['peak_mib']) / float(dense['peak_mib']):.2f}"
        seconds = row["encoder_s"] and f"{float(row['encoder_s']):.3g}"
        cells = [
            row["model"],
            row["side"],
            seconds or "–",
            row["encoder_ratio"],
            row["floor_s"],
            mb(row["peak_mib"]),
            peak,
        ]
        lines.append(line([*cells, row["error"]], bold=row["side"].startswith("bhk")))
    return lines


def predictors(rows: Rows) -> list[str]:
    """Return the table of the packages' predictors on a CPU, one line a side."""
    lines = [
        "| task | model | run by | seconds | of dense | peak, MB | masks | mask IoU, mean |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [row["task"], row["model"], row["side"], f"{float(row['seconds']):.3g}", row["ratio"]]
        cells += [mb(row["peak_mib"]), row["masks"], row["iou_mean"]]
        lines.append(line(cells, bold=row["side"].startswith("bhk")))
    return lines


def onnx(rows: Rows) -> list[str]:
    """Return the table of ONNX files on a CPU, one line a model, runtime and form of the weights."""
    lines = [
        "| model | run by | weights | files, MB | of float32 | load, s | encoder, s | of float32 | peak, MB | error "
        "| pixels that differ |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        size = int(row["encoder_bytes"]) + int(row["decoder_bytes"])
        cells = [row["model"], {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}[row["runtime"]], row["weights"]]
        cells += [f"{size / 1e6:.1f}", f"{float(row['share']):.2f}", f"{float(row['load_s']):.3g}"]
        # Rounds of other rows are no measure for the seconds of this one; its ratio is from rounds beside float32.
        seconds = f"{float(row['encoder_s']):.3g}" if row["weights"] == "float32" else ""
        cells += [seconds, f"{float(row['encoder_ratio']):.2f}", mb(row["peak_mib"])]
        lines.append(line([*cells, row["error"], row["different"]], bold=row["weights"] == "int8"))
    return lines


def hyperlinear(rows: Rows) -> list[str]:
    """Return the table of single layers, one line a shape and number of rows."""
    lines = ["| in | out | rows | nn.Linear | exact | int8 |", "|--:|--:|--:|--:|--:|--:|"]
    for (features, out, count, *_), sides in _cases(rows).items():
        cells = [
            f"{float(sides[side]['ms']):.3g} ({float(sides[side]['ms']) / float(sides['dense']['ms']):.2f})"
            for side in ("exact", "int8")
        ]
        lines.append(line([features, out, count, f"{float(sides['dense']['ms']):.3g}", *cells], bold=False))
    return lines


def _cases(rows: Rows) -> dict[tuple[str, ...], dict[str, dict[str, str]]]:
    """Return the rows of each layer and input, by their side."""
    cases: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for row in rows:
        case = tuple(row[name] for name in ("in", "out", "rows", "dtype", "cache"))
        cases.setdefault(case, {})[row["side"]] = row
    return cases


def host_time(rows: Rows) -> list[str]:
    """Return the table of what calls cost on the host, one line a kind of call."""
    lines = ["| call | µs | with Triton's own launching, µs |", "|---|--:|--:|"]
    return lines + [line([row["call"], row["us"], row["triton_us"]], bold=False) for row in rows]


def transformers_loading(rows: Rows) -> list[str]:
    """Return the table of loading by transformers, one line a kind of weight file."""
    lines = [
        "| weight file | MB | seconds | peak after loading, MB | peak once weights are read, MB | error of mask logits |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = ["`model.bhk`" if row["side"] == "bhk" else "`model.safetensors`"]
        cells += [mb(row["file_mib"]), row["load_s"]]
        cells += [mb(row["load_peak_mib"]), mb(row["read_peak_mib"]), row["masks_error"]]
        lines.append(line(cells, bold=row["side"] == "bhk"))
    return lines


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
        lines.append(line(cells, bold=row["side"] in ("exact", "int8")))
    return lines


def ceilings(rows: Rows) -> list[str]:
    """Return the table of what a GPU reaches."""
    lines = ["| what | TB/s or TFLOP/s |", "|---|--:|"]
    return lines + [line([row["what"], f"{float(row['per_second']) / 1e12:.3g}"], bold=False) for row in rows]


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
            cells += [f"{float(row['ms']):.4g}", row["speed"], mb(row["peak_mib"]), share, row["error"]]
            lines.append(line(cells, bold=row["side"] != "dense"))
    return lines


def gpu_loading(rows: Rows) -> list[str]:
    """Return the table of loading on a GPU, one line a kind of file."""
    lines = [
        "| model | from | MB | seconds to load | to the first mask | peak on the GPU, MB | peak of the host, MB |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [VARIANTS[row["variant"]].title, row["side"], mb(row["file_mib"]), row["seconds_load"]]
        cells += [row["seconds_first_mask"], mb(row["peak_mib"]), mb(row["host_peak_mib"])]
        lines.append(line(cells, bold=row["side"].startswith("bhk")))
    return lines


def line(cells: list[str], bold: bool) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(f"**{cell}**" if bold and cell else cell for cell in cells) + " |"


def mb(mib: str) -> str:
    """Return a number of MiB, as the result files have them, in MB of 10^6 bytes; an empty text stays empty."""
    return mib and f"{float(mib) * 1.048576:.0f}"
