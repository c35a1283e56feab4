"""ONNX files of bhk on a CPU: integers of the lattice beside the same weights as float32 and float16.

SAM-B, SAM2-B+ and MobileSAM of true size with synthetic weights, one image of 1,024 by 1,024 pixels. `bhk.export_onnx` writes
each form from one .bhk file; ONNX Runtime and OpenVINO run it in float32, each in a process of its own with as many threads as
torch takes, and take turns with the float32 file.

    encoder_bytes, …_bytes     the files; …_share is their ratio to those of float32
    export_s                   from the .bhk file to both files, a single time
    load_s                     from the files to two sessions, when constants are computed; a single time
    encoder_s, prompt_s        median of the rounds: the image encoder, and one point through the decoder; …_ratio to float32
    peak_mib                   growth of the process by loading and by encoding one image
    error                      of the embedding, relative to that of float32
    different                  pixels of the masks of one point that differ from float32's
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bhk
from tools.bench.frame.benchmark import Benchmark, Option, Row, Rows, Run
from tools.bench.frame.memory import HostPeak
from tools.bench.frame.process import ProcessError
from tools.bench.frame.results import version
from tools.bench.frame.timing import in_turn
from tools.bench.frame.worker import Worker
from tools.bench.models.synthetic import DEMO, make

FORMS = ("float32", "int8", "float16")
RUNTIMES = ("onnxruntime", "openvino")
MOST = 20  # rounds
ENOUGH = 15.0  # seconds after which no round starts beyond the least


@dataclass(frozen=True)
class Model:
    """A model to run: its title, its name in tests/data/state_dicts or `DEMO`, and the seconds that it is likely to take."""

    title: str
    variant: str
    expected: float

    def __str__(self) -> str:
        return self.title


MODELS = (
    Model("SAM-B", "sam_vit_b", 400),
    Model("SAM2-B+", "sam2_hiera_base_plus", 300),
    Model("MobileSAM", "mobile_sam", 100),
)
QUICK = Model("demo SAM", DEMO, 30)


class Sessions:
    """Encoder and decoder in a runtime, with an image and a point; the image was encoded once."""

    def __init__(self, runtime: str, folder: Path) -> None:
        load = {"onnxruntime": _onnx_runtime, "openvino": _openvino}[runtime]
        peak, started = HostPeak(), time.perf_counter()
        self._encoder, self._decoder = load(folder / "encoder.onnx"), load(folder / "decoder.onnx")
        self._seconds = time.perf_counter() - started
        random = np.random.default_rng(0)
        self._image = {
            name: random.standard_normal(shape, np.float32) if shape[0] == 1 else _noise(random, folder)
            for name, shape in _inputs(folder / "encoder.onnx").items()
        }
        self.encode()
        self._peak = peak.mib
        side = _inputs(folder / "decoder.onnx")["mask_input"][2]
        self._prompt = {
            "point_coords": np.array([[[0.4, 0.6], [0, 0]]], np.float32) * _size(folder),
            "point_labels": np.array([[1, -1]], np.float32),
            "mask_input": np.zeros((1, 1, side, side), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array([_size(folder)] * 2, np.float32),
        }
        self._prompt = {name: self._prompt[name] for name in _inputs(folder / "decoder.onnx") if name in self._prompt}
        self.ask()

    def encode(self) -> None:
        """Encode the image."""
        self._features = self._encoder(self._image)

    def ask(self) -> None:
        """Ask for the masks of the point."""
        self._masks = self._decoder({**self._features, **self._prompt})["masks"]

    def found(self) -> tuple[float, float | None, Any, Any]:
        """Return the seconds of loading, the peak, the embedding, and the masks."""
        embedding = next(value for name, value in self._features.items() if name.startswith("image_embed"))
        return self._seconds, self._peak, embedding, self._masks > 0


def _onnx_runtime(path: Path) -> Callable[[Any], dict[str, Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def _openvino(path: Path) -> Callable[[Any], dict[str, Any]]:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = openvino.Core().compile_model(path, "CPU", settings)
    names = [output.any_name for output in model.outputs]
    return lambda inputs: {name: np.copy(value) for name, value in zip(names, model(inputs).values(), strict=True)}


def _inputs(path: Path) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a graph's inputs; axes of any length are 0."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return {node.name: tuple(axis.dim_value for axis in node.type.tensor_type.shape.dim) for node in graph.input}


def _size(folder: Path) -> int:
    import onnx

    properties = onnx.load(folder / "encoder.onnx", load_external_data=False).metadata_props
    return int(next(entry.value for entry in properties if entry.key == "image_size"))


def _noise(random: np.random.Generator, folder: Path) -> Any:
    return random.uniform(0, 255, (_size(folder), _size(folder), 3)).astype(np.float32)


def measure(model: Model, run: Run) -> Rows:
    """Return a row for each form in each runtime."""
    source, file = run.folder / f"{model.variant}.pt", run.folder / f"{model.variant}.bhk"
    make(model.variant, source)
    bhk.convert(source, file)
    source.unlink()
    files: dict[str, Row] = {}
    for form in FORMS:
        started = time.perf_counter()
        report = bhk.export_onnx(file, run.folder / form, weights=form, force=True)  # type: ignore[arg-type]
        sizes = {f"{part.path.stem}_bytes": part.bytes for part in report.files}
        files[form] = {
            "model": model.title,
            "weights": form,
            "export_s": f"{time.perf_counter() - started:.2f}",
            **sizes,
        }
        share = sum(sizes.values()) / sum(int(str(files["float32"][name])) for name in sizes)
        files[form]["share"] = f"{share:.4f}"
    return [
        {**files[form], "runtime": runtime, "version": version(runtime), **row}
        for runtime in RUNTIMES
        if runtime in run["runtimes"].split(",")
        for form, row in _timed(runtime, run).items()
    ]


def _timed(runtime: str, run: Run) -> dict[str, Row]:
    """Return what the forms take and find in a runtime; each takes turns with float32."""
    rows: dict[str, Row] = {}
    with Worker(Sessions, runtime, run.folder / "float32") as dense:
        for form in FORMS:
            with contextlib.ExitStack() as stack:
                try:
                    worker = dense
                    if form != "float32":
                        worker = stack.enter_context(Worker(Sessions, runtime, run.folder / form))
                    rows[form] = _row(form, worker, dense, run)
                except ProcessError as error:
                    rows[form] = {"note": str(error)}
    return rows


def _row(form: str, worker: Worker, dense: Worker, run: Run) -> Row:
    loaded, peak, embedding, masks = worker.found()
    _, _, expected, reference = dense.found()
    row: Row = {
        "load_s": f"{loaded:.2f}",
        "peak_mib": None if peak is None else f"{peak:.0f}",
        "error": f"{np.linalg.norm(embedding - expected) / np.linalg.norm(expected):.2e}",
        "different": int((masks != reference).sum()),
    }
    for part in ("encode", "ask"):
        calls = {"float32": getattr(dense, part), form: getattr(worker, part)}
        found = in_turn(calls, "cpu", least=run["runs"], most=MOST, enough=0.0 if run.quick else ENOUGH)
        seconds = {name: statistics.median(times) for name, times in found.items()}
        name = {"encode": "encoder", "ask": "prompt"}[part]
        row |= {f"{name}_s": f"{seconds[form]:.4f}", f"{name}_ratio": f"{seconds[form] / seconds['float32']:.3f}"}
    return row


BENCHMARK = Benchmark(
    lambda run: [QUICK] if run.quick else MODELS,
    measure,
    case="model runtime weights",
    figures="encoder_bytes decoder_bytes share export_s load_s encoder_s encoder_ratio prompt_s prompt_ratio peak_mib error "
    "different version note",
    csv="onnx_cpu",
    shown="model runtime weights share load_s encoder_s encoder_ratio prompt_ratio peak_mib error different note",
    options={
        "runtimes": Option(",".join(RUNTIMES), "runtimes to measure, comma-separated"),
        "runs": Option(3, "rounds at least", quick=1),
    },
    expected=lambda model, run: model.expected,
)
