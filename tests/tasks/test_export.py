from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from sam.state_dicts import shapes_of

import bhk
from bhk.base.files import DestinationExistsError, WriteError
from bhk.checkpoint import UnsupportedFormatError, read
from bhk.container.errors import FormatError, StreamHashError
from bhk.tasks.export import ExportedFile, UnnamedModelError, name_in_folder
from tasks.checkpoints import draw, save


def _tensors() -> dict[str, torch.Tensor]:
    tensors = draw({"b.10.weight": (48, 48), "b.2.weight": (40, 41), "b.2.bias": (48,)})
    tensors["half.weight"] = draw({"x": (64, 64)})["x"].half()
    tensors["brain.weight"] = draw({"x": (64, 64)})["x"].bfloat16()
    tensors["steps"] = torch.tensor(7)
    tensors["none"] = torch.zeros(0, 4)
    return tensors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return bhk.convert(save(tmp_path / "sam.pth", {"model": _tensors()})).path


def _exported(path: Path, out: Path, shard_bytes: int | None = None) -> list[Path]:
    return [file.path for file in bhk.export(path, out, shard_bytes=shard_bytes).files]


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
@pytest.mark.parametrize("shard_bytes", [None, 20_000])
def test_every_format_gives_the_decoded_tensors(
    path: Path, tmp_path: Path, suffix: str, shard_bytes: int | None
) -> None:
    (tmp_path / "out").mkdir()
    files = _exported(path, tmp_path / "out" / f"model{suffix}", shard_bytes=shard_bytes)
    assert sorted((tmp_path / "out").iterdir()) == sorted(files)
    assert len(files) == (1 if shard_bytes is None else 3)
    again, decoded = read(tmp_path / "out").tensors, bhk.load_state_dict(path)
    assert list(again) == list(decoded)
    for name, tensor in decoded.items():
        assert again[name].dtype == tensor.dtype
        assert torch.equal(again[name], tensor)


def test_the_wrapper_comes_back_where_the_format_has_one(path: Path, tmp_path: Path) -> None:
    bhk.export(path, tmp_path / "a.pth")
    assert set(torch.load(tmp_path / "a.pth", weights_only=True)) == {"model"}
    bhk.export(path, tmp_path / "a.safetensors")
    assert set(safetensors.torch.load_file(tmp_path / "a.safetensors")) == set(_tensors())


def test_shards_have_an_index(path: Path, tmp_path: Path) -> None:
    *shards, index = _exported(path, tmp_path / "m.safetensors", shard_bytes=20_000)
    content = json.loads(index.read_text())
    assert set(content["weight_map"].values()) == {shard.name for shard in shards}
    assert content["metadata"]["total_size"] == sum(tensor.nbytes for tensor in _tensors().values())


def test_an_exported_file_converts_to_the_same_tensors(path: Path, tmp_path: Path) -> None:
    bhk.export(path, tmp_path / "again.pth")
    bhk.convert(tmp_path / "again.pth", quality=bhk.Quality(exact=["*"]))
    again = bhk.load_state_dict(tmp_path / "again.bhk")
    assert all(torch.equal(again[name], tensor) for name, tensor in bhk.load_state_dict(path).items())


def test_progress_counts_dense_bytes(path: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    bhk.export(path, tmp_path / "a.pth", progress=lambda *told: seen.append(told))
    total = sum(tensor.nbytes for tensor in _tensors().values())
    assert seen == sorted(seen)
    assert seen[-1] == ("Exporting", total, total)


def test_destinations_that_must_not_be_written(path: Path, tmp_path: Path) -> None:
    (tmp_path / "old.pth").write_bytes(b"old")
    (tmp_path / "link.pth").symlink_to(path)
    before = path.read_bytes()
    with pytest.raises(DestinationExistsError):
        bhk.export(path, tmp_path / "old.pth")
    with pytest.raises(WriteError, match="being read"):
        bhk.export(path, tmp_path / "link.pth", force=True)
    with pytest.raises(WriteError, match="does not exist"):
        bhk.export(path, tmp_path / "missing" / "a.pth")
    with pytest.raises(UnsupportedFormatError, match=r"use \.safetensors, \.pth, \.pt, \.bin"):
        bhk.export(path, tmp_path / "a.onnx")
    assert (path.read_bytes(), (tmp_path / "old.pth").read_bytes()) == (before, b"old")


@pytest.mark.parametrize("shard_bytes", [None, 20_000])
def test_a_damaged_stream_leaves_nothing(path: Path, tmp_path: Path, shard_bytes: int | None) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StreamHashError):
        bhk.export(path, tmp_path / "a.safetensors", shard_bytes=shard_bytes)
    assert sorted(tmp_path.iterdir()) == before


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"not a \.bhk file"):
        bhk.export(save(tmp_path / "a.pth", _tensors()), tmp_path / "b.pth")


def _published(folder: Path, name: str, like: str) -> Path:
    """Return the .bhk file of a checkpoint of zeros with the names and shapes of a published one."""
    return bhk.convert(save(folder / name, {key: torch.zeros(shape) for key, shape in shapes_of(like).items()})).path


def test_a_file_in_a_folder_gets_the_official_name(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    path = _published(tmp_path, "fine_tune.pth", "mobile_sam")
    report = bhk.export(path, tmp_path / "models")
    assert report.path == tmp_path / "models" / "mobile_sam.pt"
    assert report.files == (ExportedFile(report.path, report.path.stat().st_size),)
    assert report.other_names == ("tinysam_42.3.pth",)
    again = torch.load(tmp_path / "models" / "mobile_sam.pt", weights_only=True)
    assert {name: tuple(tensor.shape) for name, tensor in again.items()} == shapes_of("mobile_sam")
    with pytest.raises(DestinationExistsError, match=r"mobile_sam\.pt exists"):
        bhk.export(path, tmp_path / "models")
    with pytest.raises(WriteError, match=r"folder .*new does not exist; create it first"):
        bhk.export(path, f"{tmp_path}/new/")


def test_the_name_of_the_source_decides_between_equal_models(tmp_path: Path) -> None:
    path = _published(tmp_path, "tinysam_42.3.pth", "mobile_sam")
    assert name_in_folder(path, tmp_path) == (tmp_path / "tinysam_42.3.pth", ())
    path = path.rename(tmp_path / "other.bhk")
    assert name_in_folder(path, f"{tmp_path}/new/") == (tmp_path / "new" / "tinysam_42.3.pth", ())
    assert name_in_folder(path, tmp_path / "new") == (tmp_path / "new", ())


def test_a_folder_gets_the_configuration_of_a_transformers_model(tmp_path: Path) -> None:
    """Beside the weights, from_pretrained needs nothing else."""
    texts = {"config.json": '{"model_type":"bert"}', "preprocessor_config.json": '{"size":128}'}
    for folder in (tmp_path / "original", tmp_path / "again"):
        folder.mkdir()
    safetensors.torch.save_file(draw({"a.weight": (48, 48)}), tmp_path / "original" / "model.safetensors")
    for name, text in texts.items():
        (tmp_path / "original" / name).write_text(text)
    path = bhk.convert(tmp_path / "original").path
    weights, *beside = _exported(path, tmp_path / "again")
    assert weights == tmp_path / "again" / "model.safetensors"
    assert {file.name: file.read_text() for file in beside} == texts
    weights.unlink()
    with pytest.raises(DestinationExistsError, match=r"config\.json exists"):
        bhk.export(path, tmp_path / "again")
    assert not weights.exists()
    assert _exported(path, tmp_path / "alone.safetensors") == [tmp_path / "alone.safetensors"]


def test_an_unpublished_model_has_no_official_name(path: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UnnamedModelError, match=r"does not say which model it holds, so it has .* give the name of the file"
    ):
        bhk.export(path, tmp_path)
    small = draw({"mask_decoder.iou_token.weight": (1, 256), "image_encoder.pos_embed": (1, 8, 8, 64)})
    with pytest.raises(UnnamedModelError, match="holds SAM, of no published size, so it has no official file name"):
        bhk.export(bhk.convert(save(tmp_path / "small.pth", small)).path, tmp_path)
