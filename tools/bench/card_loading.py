"""From a file on the disk to the first mask: `python -m tools.bench.card_loading [--device cuda] [--variant sam_vit_h]`.

The sides are `bhk.load` of a .bhk file (exact, int8, dense), and the usual way: safetensors' `load_file` onto the device, and
`load_state_dict(assign=True)` into the same model, built without weights. The safetensors files are of the same synthetic
checkpoint: one in bfloat16, one in float32, which is cast once it is loaded. All models end in one dtype: bfloat16 on a card,
float32 on a CPU.

Each measurement is a process of its own; before its clock starts, it has imported all it needs and made the CUDA context. The
files were read before, so they come from the page cache, not from the disk. On a card the .bhk sides were run once before, so
that their kernels come compiled from Triton's cache. Seconds are medians: of loading, and of loading, encoder and decoder up to
the mask of one point, the first call of everything. "resident" is what the card's memory holds after loading; peaks are what it
and the process hold at most, the process beyond what it held when the clock started. The CSV is named after the device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import segment_anything.modeling  # noqa: F401  before any clock starts: bhk imports it when it builds a model
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import bhk
from bhk.nn import weights_on_meta
from bhk.sam.build import build_model
from bhk.sam.load import load as bhk_load
from bhk.sam.recognise import recognise
from tools.bench.frame.memory import MIB, HostPeak
from tools.bench.frame.results import ROOT, Row, device_columns, device_name, show, write_csv
from tools.bench.frame.timing import Budget
from tools.bench.models.sam_parts import Parts, random_points
from tools.bench.models.synthetic import make
from tools.demo import CHECKPOINT

SHOWN = ("side", "file_mib", "seconds_load", "seconds_first_mask", "peak_mib", "host_peak_mib", "note")
FIGURES = ("seconds_load", "seconds_first_mask", "resident_mib", "load_peak_mib", "peak_mib", "host_peak_mib")
DEMO = "demo_sam"  # the model that comes with bhk, to try the benchmark on
EXPECTED = 30.0  # seconds that a process is likely to take
LONGEST = 120  # seconds after which it is stopped

Loading = Callable[[Path, str, torch.dtype], nn.Module]


def load_bhk(path: Path, device: str, dtype: torch.dtype, **options: str) -> nn.Module:
    """Load a .bhk file."""
    return bhk_load(path, device=device, dtype=dtype, **options)  # type: ignore[arg-type]


def load_safetensors(path: Path, device: str, dtype: torch.dtype) -> nn.Module:
    """Load a safetensors file into the model that its shapes tell of."""
    tensors = load_file(path, device=device)
    recognised = recognise({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    assert recognised is not None
    with weights_on_meta():
        model = build_model(recognised.entry)
    model.load_state_dict(tensors, assign=True)
    del tensors  # else casting holds both
    return model.to(device, dtype)


@dataclass(frozen=True)
class Side:
    """A way to load.

    Attributes:
        file: its name in the folder of files.
    """

    file: str
    load: Loading


SIDES = {
    "bhk exact": Side("model.bhk", load_bhk),
    "bhk int8": Side("model.bhk", partial(load_bhk, compute="int8")),
    "bhk dense": Side("model.bhk", partial(load_bhk, mode="dense")),
    "safetensors bfloat16": Side("bfloat16.safetensors", load_safetensors),
    "safetensors float32": Side("float32.safetensors", load_safetensors),
}


def make_files(variant: str, folder: Path) -> None:
    """Write the files of all sides, with synthetic weights (of the demo model: its own)."""
    dense = folder / "float32.safetensors"
    if variant == DEMO:
        save_file({name: tensor.float() for name, tensor in load_file(CHECKPOINT).items()}, dense)
    else:
        make(variant, dense)
    bhk.convert(dense, folder / "model.bhk")
    halves = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in load_file(dense).items()
    }
    save_file(halves, folder / "bfloat16.safetensors")


def read(path: Path) -> None:
    """Bring a file into the page cache."""
    with path.open("rb") as file:
        while file.read(64 << 20):
            pass


@torch.inference_mode()
def measure_here(side: Side, path: Path, device: str) -> dict[str, float | None]:
    """Return `FIGURES` of loading `path` in this process, None for what the device or the system does not tell."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    if device == "cuda":
        import triton  # noqa: F401  which bhk imports with the first kernel

        torch.zeros(1, device=device)  # makes the context
        torch.cuda.reset_peak_memory_stats()
    settle = torch.cuda.synchronize if device == "cuda" else lambda: None
    settle()
    host, begin = HostPeak(), time.perf_counter()
    model = side.load(path, device, dtype)
    settle()
    loaded = time.perf_counter() - begin
    resident = torch.cuda.memory_allocated() / MIB if device == "cuda" else None
    load_peak = torch.cuda.max_memory_allocated() / MIB if device == "cuda" else None
    parts = Parts(model)
    image = torch.randn(1, 3, parts.size, parts.size, device=device, dtype=dtype)
    masks, _ = parts.decode(parts.ask(parts.encode(image), random_points(1, parts.size, device)))
    masks.cpu()
    asked = time.perf_counter() - begin
    peak = torch.cuda.max_memory_allocated() / MIB if device == "cuda" else None
    return dict(zip(FIGURES, (loaded, asked, resident, load_peak, peak, host.mib), strict=True))


def measure_apart(name: str, path: Path, device: str) -> dict[str, float | None]:
    """Return what `measure_here` returns in a fresh process.

    Raises:
        subprocess.SubprocessError: it failed, or took too long.
    """
    command = [sys.executable, "-m", "tools.bench.card_loading", "--device", device, "--here", name, str(path)]
    ended = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=LONGEST)
    found: dict[str, float | None] = json.loads(ended.stdout.splitlines()[-1])
    return found


def medians(found: list[Mapping[str, float | None]]) -> dict[str, str]:
    """Return the columns of `FIGURES`: the median of each over the processes, empty where there is none."""
    columns = dict.fromkeys(FIGURES, "")
    for name in FIGURES:
        values = [figures[name] for figures in found]
        known = [value for value in values if value is not None]
        if known:
            columns[name] = f"{statistics.median(known):.{3 if name.startswith('seconds') else 1}f}"
    return columns


def run(variant: str, device: str, runs: int, budget: Budget, folder: Path) -> list[Row]:
    """Measure all sides in rounds as long as the budget lasts, and write the CSV after each process."""
    make_files(variant, folder)
    print(f"files made, {budget.left:.0f} s left", flush=True)
    for file in sorted({side.file for side in SIDES.values()}):
        read(folder / file)
    found: dict[str, list[Mapping[str, float | None]]] = {name: [] for name in SIDES}
    notes = dict.fromkeys(SIDES, "")
    where, rows = device_columns(device), list[Row]()
    for name, counts in _turns(device, runs):
        if notes[name]:
            continue
        if not budget.allows(EXPECTED):
            print(f"left out, {max(budget.left, 0):.0f} s of {budget.seconds:.0f} s left: {name}", flush=True)
            continue
        try:
            figures = measure_apart(name, folder / SIDES[name].file, device)
        except subprocess.SubprocessError as error:
            notes[name] = _last_line(error)
        else:
            found[name] += [figures] if counts else []
        rows = [_row(variant, side, found[side], notes[side], folder) | where for side in SIDES]
        write_csv(f"card_loading_{device_name(device)}", rows)
    return rows


def _turns(device: str, runs: int) -> Iterator[tuple[str, bool]]:
    """Yield which side is to be run, and whether that counts or only fills the cache of compiled kernels."""
    if device == "cuda":
        yield from ((name, False) for name, side in SIDES.items() if side.file.endswith(".bhk"))
    for _ in range(runs):
        yield from ((name, True) for name in SIDES)


def _row(
    variant: str, name: str, found: list[Mapping[str, float | None]], note: str, folder: Path
) -> dict[str, object]:
    size = (folder / SIDES[name].file).stat().st_size
    return {
        "variant": variant,
        "side": name,
        "file_mib": f"{size / MIB:.1f}",
        **medians(found),
        "processes": len(found),
        "note": note,
    }


def _last_line(error: subprocess.SubprocessError) -> str:
    """Return what a process said last, or that it took too long."""
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
    return ((said or "").strip().splitlines() or [str(error)])[-1][:200]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--variant", default="sam_vit_h", help=f"a flat SAM in tests/data/state_dicts, or {DEMO}")
    parser.add_argument("--runs", type=int, default=2, help="processes a side")
    parser.add_argument("--seconds", type=float, default=180.0, help="after which nothing new is started")
    parser.add_argument("--here", nargs=2, metavar=("SIDE", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        name, file = arguments.here
        print(json.dumps(measure_here(SIDES[name], Path(file), arguments.device)))
        return
    budget = Budget(arguments.seconds)
    with tempfile.TemporaryDirectory() as folder:
        rows = run(arguments.variant, arguments.device, arguments.runs, budget, Path(folder))
    if rows:
        show(rows, SHOWN)


if __name__ == "__main__":
    main()
