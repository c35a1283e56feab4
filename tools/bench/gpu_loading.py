"""From a file on the disk to the first mask.

The sides are `bhk.load` of a .bhk file (exact, int8, dense), and the usual way: safetensors' `load_file` onto the device, and
`load_state_dict(assign=True)` into the same model, built without weights. Both safetensors files hold the same synthetic
checkpoint, one in bfloat16, one in float32, which is cast after loading. All models end in one dtype: bfloat16 on a GPU,
float32 on a CPU.

Each loading is a fresh process that has imported everything and made the CUDA context before its clock starts. The files lie
in the page cache. On a GPU the .bhk sides run once before, so that their kernels come compiled from Triton's cache. Seconds
are medians: of loading, and of loading, encoder and decoder up to the mask of one point, the first call of everything.
"resident" is what the GPU holds after loading; peaks are the most that the GPU holds, and that the process grows by.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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
from tools.bench.frame.benchmark import Benchmark, Option, Row, Rows, Run
from tools.bench.frame.memory import MIB
from tools.bench.frame.process import Apart, ProcessError, apart, warm
from tools.bench.models.sam_parts import Parts, random_points
from tools.bench.models.synthetic import DEMO, make

BHK = "model.bhk"
LONGEST = 120  # seconds after which a process is stopped
FIGURES = ("seconds_load", "seconds_first_mask", "resident_mib", "load_peak_mib", "peak_mib", "host_peak_mib")

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
    """A way to load a file, which is named as in the folder of files."""

    file: str
    load: Loading


SIDES = {
    "bhk exact": Side(BHK, load_bhk),
    "bhk int8": Side(BHK, partial(load_bhk, compute="int8")),
    "bhk dense": Side(BHK, partial(load_bhk, mode="dense")),
    "safetensors bfloat16": Side("bfloat16.safetensors", load_safetensors),
    "safetensors float32": Side("float32.safetensors", load_safetensors),
}


@dataclass
class Loadings:
    """The loadings of a side so far; a note says why there are no more."""

    found: list[Apart] = field(default_factory=list)
    note: str = ""


@dataclass
class Turn:
    """One loading of a side; `counts` is unset if it only fills the cache of compiled kernels."""

    side: str
    loadings: Loadings
    counts: bool = True

    def __str__(self) -> str:
        return self.side if self.counts else f"{self.side}, to compile"


def make_files(variant: str, folder: Path) -> None:
    """Write the files of all sides."""
    dense = folder / "float32.safetensors"
    make(variant, dense)
    bhk.convert(dense, folder / BHK)
    halves = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in load_file(dense).items()
    }
    save_file(halves, folder / "bfloat16.safetensors")


def cases(run: Run) -> Iterator[Turn]:
    """Make the files, and yield the turns: a round over all sides, then the next."""
    make_files(run["variant"], run.folder)
    for path in run.folder.iterdir():
        warm(path)
    yield from turns(run.device, run["runs"])


def turns(device: str, runs: int) -> Iterator[Turn]:
    loadings = {name: Loadings() for name in SIDES}
    if device == "cuda":
        yield from (Turn(name, loadings[name], counts=False) for name, side in SIDES.items() if side.file == BHK)
    for _ in range(runs):
        yield from (Turn(name, loadings[name]) for name in SIDES)


@torch.inference_mode()
def load_and_ask(side: str, path: str, device: str) -> Iterator[None]:
    """Load a file, then ask for a mask; run in a process of its own."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    if device == "cuda":
        import triton  # noqa: F401  which bhk imports with the first kernel

        torch.zeros(1, device=device)  # makes the context
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    yield
    model = SIDES[side].load(Path(path), device, dtype)
    yield
    parts = Parts(model)
    image = torch.randn(1, 3, parts.size, parts.size, device=device, dtype=dtype)
    masks, _ = parts.decode(parts.ask(parts.encode(image), random_points(1, parts.size, device)))
    masks.cpu()
    yield


def measure(turn: Turn, run: Run) -> Rows:
    path, loadings = run.folder / SIDES[turn.side].file, turn.loadings
    if not loadings.note:
        try:
            found = apart(load_and_ask, turn.side, path, run.device, longest=LONGEST)
        except ProcessError as error:
            loadings.note = str(error)
        else:
            loadings.found += [found] * turn.counts
    row: Row = {"variant": run["variant"], "side": turn.side, "file_mib": f"{path.stat().st_size / MIB:.1f}"}
    return [row | medians(loadings.found) | {"processes": len(loadings.found), "note": loadings.note}]


def medians(found: list[Apart]) -> Row:
    """Return the columns of `FIGURES`: the median of each over the processes, empty where nothing is known."""
    stages = [process.stages for process in found]
    values = {
        "seconds_load": [load.seconds for load, _ in stages],
        "seconds_first_mask": [asked.seconds for _, asked in stages],
        "resident_mib": [load.gpu_mib for load, _ in stages],
        "load_peak_mib": [load.gpu_peak_mib for load, _ in stages],
        "peak_mib": [asked.gpu_peak_mib for _, asked in stages],
        "host_peak_mib": [asked.host_peak_mib for _, asked in stages],
    }
    known = {name: [value for value in figures if value is not None] for name, figures in values.items()}
    return {
        name: f"{statistics.median(figures):.{3 if name.startswith('seconds') else 1}f}" if figures else ""
        for name, figures in known.items()
    }


BENCHMARK = Benchmark(
    cases,
    measure,
    case="variant side",
    figures=f"file_mib {' '.join(FIGURES)} processes note",
    csv="gpu_loading_{device}",
    shown="side file_mib seconds_load seconds_first_mask peak_mib host_peak_mib note",
    devices=("cpu", "cuda"),
    options={
        "variant": Option("sam_vit_h", f"a flat SAM in tests/data/state_dicts, or {DEMO}", quick=DEMO),
        "runs": Option(2, "processes a side", quick=1),
    },
    expected=lambda case, run: 30.0,
)
