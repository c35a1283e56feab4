from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

pytest.importorskip("segment_anything")

from bhk.kernels import attention as kernel
from bhk.kernels import reference
from bhk.nn import HyperLinear
from tools.bench import sam
from tools.bench.ceilings import Ceilings
from tools.bench.frame.benchmark import Run
from tools.bench.frame.process import ProcessError
from tools.bench.frame.results import read_csv
from tools.bench.models.synthetic import DEMO
from tools.bench.runtimes.in_torch import coded_model, write_files
from tools.bench.runtimes.runner import PROMPTS, Operations, Runner, operations, prepare
from tools.bench.runtimes.sides import SIDES, Numbers
from tools.bench.sam import BENCHMARK, QUICK_MODEL, chosen, floor


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(DEMO, tmp_path_factory.mktemp("files"))


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(reference, "INTEGER_SIZE", reference.INTEGER_SIZE)  # loading the demo SAM changes it
    monkeypatch.setattr(kernel, "is_faster", lambda *_: False)  # int8 rounds in linear layers only
    with torch.enable_grad():  # a Runner turns gradients off
        yield


def runner(side: str, files: Path) -> Runner:
    return Runner(side, files, QUICK_MODEL.package, QUICK_MODEL.size)


@pytest.mark.parametrize(
    ("side", "least", "most", "share"),
    [
        ("bhk attention", 0, 1e-5, (1.0, 1.0)),
        ("bhk exact", 0, 1e-5, (0.25, 0.6)),
        ("bhk int8", 1e-3, 1e-1, (0.25, 0.6)),
        ("bfloat16", 1e-4, 3e-2, (0.5, 0.5)),
    ],
)
def test_whole_sides_hold_the_weights_of_dense(
    files: Path, side: str, least: float, most: float, share: tuple[float, float]
) -> None:
    dense, other = runner("dense", files), runner(side, files)
    (expected,), _ = dense.found()
    (features,), _ = other.found()
    assert features.dtype == np.float32
    assert least <= np.linalg.norm(features - expected) / np.linalg.norm(expected) < most
    masks = other.masks((features,))
    assert (masks.shape[:2], masks.dtype) == ((PROMPTS, 3), bool)
    assert (masks == dense.masks((expected,))).mean() > 0.99
    assert share[0] <= other.linear_bytes() / dense.linear_bytes() <= share[1]


def test_int8_without_a_layer_that_holds_codes_is_no_side(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"  # by another name than the demo SAM's, bhk chooses which layers hold codes
    folder.symlink_to(files)
    assert not any(isinstance(module, HyperLinear) for module in coded_model(folder).modules())
    with pytest.raises(ValueError, match="holds them dense on a CPU"):
        coded_model(folder, "int8")


@pytest.mark.parametrize("side", ["ONNX Runtime float32", "ONNX Runtime int8", "OpenVINO float32", "OpenVINO int8"])
def test_exported_encoders_find_the_features_of_dense(files: Path, side: str) -> None:
    for package in ("onnx", "onnxruntime", "openvino", "nncf"):
        pytest.importorskip(package)
    prepare(side, files)
    (features,), _ = runner(side, files).found()
    (expected,), _ = runner("dense", files).found()
    error = 1e-5 if "float32" in side else 3e-2
    assert 0 < np.linalg.norm(features - expected) < error * np.linalg.norm(expected)


def test_operations_are_those_of_linear_layers_and_the_others(files: Path) -> None:
    dense = runner("dense", files)
    linear, attention, convolution = dense.operations()
    encoder = dense._parts.encoder
    tokens = (QUICK_MODEL.size // 8) ** 2
    weights = sum(module.weight.numel() for module in encoder.modules() if type(module).__name__ == "Linear")
    assert 2 * tokens * weights <= linear < 2.5 * tokens * weights  # windows are padded
    assert attention > 0
    assert convolution > 0


def test_fused_attention_counts_as_operations() -> None:
    linear, qkv = torch.nn.Linear(8, 16), torch.ones(3, 2, 4, 10, 8)  # images, heads, tokens, head

    def call() -> None:
        linear(torch.ones(5, 8))
        scaled_dot_product_attention(*qkv)

    assert operations(call) == (2 * 5 * 8 * 16, 2 * 2 * 2 * 4 * 10 * 10 * 8, 0)


def test_the_floor_is_that_of_the_sides_numbers() -> None:
    limits, work = Ceilings({"float32": 1e9, "int8": 1e10}), Operations(10**9, 10**9, 2 * 10**9)
    assert floor(work, Numbers("int8"), limits) == "3.1000"
    assert floor(work, Numbers("int8", "int8"), limits) == "2.2000"
    assert floor(work, SIDES["bfloat16"].numbers, limits) is None


@pytest.mark.parametrize(
    ("side", "is_faster", "attention"),
    [("bhk int8", True, "bfloat16"), ("bhk int8", False, "float32"), ("bhk exact", True, "float32")],
)
def test_attention_of_int8_counts_as_bfloat16_where_it_is_rounded(
    files: Path, monkeypatch: pytest.MonkeyPatch, side: str, is_faster: bool, attention: str
) -> None:
    monkeypatch.setattr(kernel, "is_faster", lambda *_: is_faster)
    assert runner(side, files).numbers().attention == attention


def test_sides_are_chosen_by_a_part_of_their_names_and_dense_is_always_there() -> None:
    assert chosen("") == list(SIDES)
    assert chosen("int8,bfloat16")[:3] == ["dense", "bfloat16", "bhk int8"]


def test_masks_are_compared_one_by_one() -> None:
    one, other = np.zeros((2, 1, 4, 4), bool), np.zeros((2, 1, 4, 4), bool)
    one[0, 0, :2] = other[0, 0, :1] = True
    assert sam._iou(one, other).tolist() == [[0.5], [1.0]]


@pytest.mark.full
def test_rows_tell_of_every_side_and_why_one_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = sam.Worker

    def failing(make: Any, side: str, *arguments: Any) -> Any:
        if side == "bhk int8":
            raise ProcessError("ValueError: no such instructions")
        return worker(make, side, *arguments)

    monkeypatch.setattr(sam, "Worker", failing)
    options = {"sides": "bhk exact,bhk int8", "runs": 1, "processes": 1}
    run = Run(tmp_path / "scratch", tmp_path, quick=True, options=options)
    run.folder.mkdir()
    assert BENCHMARK.run(run)
    dense, exact, int8 = read_csv(tmp_path / "sam_cpu.csv")
    assert (dense["encoder_ratio"], dense["error"], dense["iou_min"]) == ("1.000", "0.00e+00", "1.00000")
    assert float(exact["error"]) < 1e-5
    for row in (dense, exact):
        for column in ("encoder_s", "prompt_s", "prompts_s", "first_mask_s", "floor_s", "peak_mib"):
            assert float(row[column]) > 0
        assert not row["note"]
    assert (int8["note"], int8["encoder_s"]) == ("ValueError: no such instructions", "")
