from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from sam.models import small_sam
from torch import nn

import bhk
from bhk.base.files import DestinationExistsError, WriteError
from bhk.graphs import parts
from bhk.nn.loading import load_options
from bhk.sam.load import load_model

pytest.importorskip("segment_anything")
onnx = pytest.importorskip("onnx")


class Tiny(nn.Module):
    """A part with one weight."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.model.image_encoder.blocks[0].mlp.lin1.weight.T  # type: ignore[index, union-attr, operator, no-any-return]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = bhk.convert(small_sam(), tmp_path_factory.mktemp("sam") / "sam.bhk").path
    assert path is not None
    return path


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the parts of a model be tiny ones, which are traced at once."""

    def tiny(model: nn.Module) -> tuple[parts.Part, ...]:
        names = ("encoder", "decoder")
        return tuple(parts.Part(name, Tiny(model), (torch.zeros(3, 64),), ("x",), ("y",), {}, 128) for name in names)

    monkeypatch.setattr("bhk.graphs.onnx_model.parts_of", tiny)


def test_the_report_names_files_and_forms(path: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    report = bhk.export_onnx(path, tmp_path / "new", progress=lambda *told: seen.append(told))
    assert [file.path.name for file in report.files] == ["encoder.onnx", "decoder.onnx"]
    assert sorted(file.path for file in report.files) == sorted((tmp_path / "new").iterdir())
    assert report.tensors == {"encoder": {"int8": 1}, "decoder": {"int8": 1}}
    first = f"{tmp_path}/new/encoder.onnx: {report.files[0].bytes / 1000:.1f} kB (1 tensor int8)"
    assert str(report).splitlines()[0] == first
    assert seen == sorted(seen)
    assert seen[-1][1] == seen[-1][2]
    model = onnx.load(report.files[0].path)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"image_size": "128"}
    assert [entry.version for entry in model.opset_import] == [report.opset]


@pytest.mark.parametrize("weights", ["int8", "float32"])
def test_weights_beyond_the_limit_of_the_format_lie_beside_the_file(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr("bhk.graphs.onnx_model.LARGEST", 10)
    report = bhk.export_onnx(path, tmp_path / "new", weights=weights)  # type: ignore[arg-type]
    names = [file.path.name for file in report.files]
    assert names == ["encoder.onnx", "encoder.onnx.data", "decoder.onnx", "decoder.onnx.data"]
    x = torch.eye(64)[:3]
    (y,) = runtime.InferenceSession(report.files[0].path).run(None, {"x": x.numpy()})
    weight = bhk.load_state_dict(path)["image_encoder.blocks.0.mlp.lin1.weight"]
    torch.testing.assert_close(torch.from_numpy(y), x @ weight.T, rtol=0, atol=1e-6)


def test_weights_beside_a_larger_model_before_are_removed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("bhk.graphs.onnx_model.LARGEST", 10)
        bhk.export_onnx(path, tmp_path / "new")
    with pytest.raises(DestinationExistsError):
        bhk.export_onnx(path, tmp_path / "new")
    assert len(list((tmp_path / "new").iterdir())) == 4
    report = bhk.export_onnx(path, tmp_path / "new", force=True)
    assert sorted(file.path for file in report.files) == sorted((tmp_path / "new").iterdir())


def test_nothing_is_left_or_changed_after_an_error(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bhk.export_onnx(path, tmp_path / "old")
    (tmp_path / "old" / "decoder.onnx").write_bytes(b"mine")
    before = {file: file.read_bytes() for file in (tmp_path / "old").iterdir()}
    with pytest.raises(DestinationExistsError, match=r"encoder\.onnx exists"):
        bhk.export_onnx(path, tmp_path / "old")
    with monkeypatch.context() as patch:
        patch.setattr("bhk.graphs.onnx_model.OnnxModel.chunks", lambda *_: 1 / 0)
        for folder in ("old", "new"):
            with pytest.raises(ZeroDivisionError):
                bhk.export_onnx(path, tmp_path / folder, force=True)
    assert [file.name for file in tmp_path.iterdir()] == ["old"]
    assert {file: file.read_bytes() for file in (tmp_path / "old").iterdir()} == before
    bhk.export_onnx(path, tmp_path / "old", force=True)
    assert (tmp_path / "old" / "decoder.onnx").read_bytes() != b"mine"


def test_what_cannot_be_done_is_said_before_the_model_is_loaded(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteError, match="file exists"):
        bhk.export_onnx("none.bhk", tmp_path / "file")
    with pytest.raises(WriteError, match=r"folder .*none does not exist"):
        bhk.export_onnx("none.bhk", tmp_path / "none" / "deep")
    with pytest.raises(
        bhk.errors.OptionError, match="weights 'int4' are unknown; choose 'int8', 'float32' or 'float16'"
    ):
        bhk.export_onnx("none.bhk", tmp_path, weights="int4")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr("bhk.base.packages.is_installed", lambda _: False)
    with pytest.raises(bhk.errors.MissingPackageError, match="the package onnx, which is not installed; run: pip"):
        bhk.export_onnx("none.bhk", tmp_path)


def test_a_layer_without_an_operator_is_named(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tiny, "forward", lambda self, x: torch.special.bessel_j0(x))
    with pytest.raises(bhk.errors.OnnxError, match=r"encoder .* ONNX lacks: .*special_bessel_j0"):
        bhk.export_onnx(path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_model_whose_pictures_are_prepared_in_another_way_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(path, load_options(mode="dense"))
    entry = msgspec.structs.replace(loaded.entry, variant="medsam")
    monkeypatch.setattr("bhk.tasks.export_onnx.load_model", lambda *_, **__: replace(loaded, entry=entry))
    with pytest.raises(bhk.errors.OnnxError, match="no ONNX files of MedSAM; it does of SAM"):
        bhk.export_onnx(path, tmp_path / "new")


@pytest.mark.parametrize(("family", "title"), [("sam_med2d", "SAM-Med2D"), ("edge_tam", "EdgeTAM")])
def test_relatives_with_classes_of_the_same_names_are_refused(
    family: str, title: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(path, load_options(mode="dense"))
    entry = msgspec.structs.replace(loaded.entry, family=family)
    monkeypatch.setattr("bhk.tasks.export_onnx.load_model", lambda *_, **__: replace(loaded, entry=entry))
    with pytest.raises(bhk.errors.OnnxError, match=f"no ONNX files of {title}; it does of SAM"):
        bhk.export_onnx(path, tmp_path / "new")
    assert not (tmp_path / "new").exists()
