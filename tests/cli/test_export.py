from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sam.state_dicts import shapes_of

import bhk as package
from bhk.checkpoint import read
from cli.conftest import Shell


def test_the_file_is_named(bhk: Shell, converted: Path) -> None:
    ended = bhk("export", "sam.bhk", "-o", "again.pth")
    assert (ended.status, ended.err) == (0, "")
    size = (bhk.folder / "again.pth").stat().st_size
    assert ended.out == f"again.pth: {size / 1000:.3g} kB\n"
    decoded = package.load_state_dict(converted)
    again = torch.load(bhk.folder / "again.pth", weights_only=True)["model"]
    assert all(torch.equal(again[name], tensor) for name, tensor in decoded.items())


@pytest.mark.parametrize(("size", "count"), [("10kB", 3), ("10000", 3), ("9.7KiB", 3), ("1GB", 1), ("2 MiB", 1)])
def test_shards_of_a_size(bhk: Shell, converted: Path, size: str, count: int) -> None:
    document = bhk("export", converted, "-o", "m.safetensors", "--shard-size", size, "--json").document
    files = document["files"]
    assert len(files) == count
    assert all((bhk.folder / file["path"]).stat().st_size == file["bytes"] for file in files)
    assert set(read(bhk.folder / files[-1]["path"]).tensors) == set(package.load_state_dict(converted))


@pytest.mark.parametrize("size", ["0", "5 apples", "-3MB", "1e9", "nan"])
def test_an_impossible_size_is_wrong_usage(bhk: Shell, converted: Path, size: str) -> None:
    ended = bhk("export", converted, "-o", "m.safetensors", "--shard-size", size, environment={"COLUMNS": "100"})
    assert (ended.status, ended.out) == (2, "")
    assert "is not a size such as 5GB or 500MiB" in ended.err


def test_quiet_prints_nothing(bhk: Shell, converted: Path) -> None:
    ended = bhk("export", converted, "-o", "again.pth", "--quiet")
    assert (ended.status, ended.out, ended.err) == (0, "", "")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sam.bhk", "a.onnx"], "cannot write a.onnx: unknown suffix '.onnx'; use .safetensors, .pth, .pt, .bin"),
        (["sam.bhk", "sam.pth"], "sam.pth exists; use --force to overwrite it"),
        (["sam.bhk", "none/a.pth"], "folder none does not exist; create it first"),
        (["link.pth", "sam.pth"], "sam.pth exists; use --force to overwrite it"),
        (["sam.bhk", "link.pth", "--force"], "link.pth is the file that is being read; give another name"),
        (["none.bhk", "a.pth"], "cannot read none.bhk: No such file or directory"),
        (["sam.pth", "a.pth"], "not a .bhk file"),
    ],
)
def test_an_error_is_one_line(bhk: Shell, converted: Path, args: list[str], message: str) -> None:
    (bhk.folder / "link.pth").symlink_to("sam.bhk")
    before = {path: path.read_bytes() for path in bhk.folder.iterdir()}
    assert message in bhk.fails("export", args[0], "-o", *args[1:])
    assert {path: path.read_bytes() for path in bhk.folder.iterdir()} == before


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_full_disk(bhk: Shell, converted: Path, name: str) -> None:
    message = bhk.fails("export", "sam.bhk", "-o", name, file_size=8000)
    assert message == f"cannot write {name}: File too large; nothing was changed"
    assert not (bhk.folder / name).exists()


def test_a_file_in_a_folder_gets_the_official_name(bhk: Shell) -> None:
    torch.save({name: torch.zeros(shape) for name, shape in shapes_of("mobile_sam").items()}, bhk.folder / "mine.pth")
    package.convert(bhk.folder / "mine.pth")
    (bhk.folder / "models").mkdir()
    ended = bhk("export", "mine.bhk", "-o", "models/")
    assert (ended.status, ended.out) == (0, "models/mobile_sam.pt: 40.7 MB\n")
    assert ended.err == "mobile_sam.pt is one official name of this architecture; others: tinysam_42.3.pth\n"
    assert bhk.fails("export", "mine.bhk", "-o", "none/") == "folder none does not exist; create it first"


def test_options_of_the_other_format_are_wrong_usage(bhk: Shell, converted: Path) -> None:
    for options in (["--weights", "int8"], ["--config", "tinysam"], ["--format", "onnx", "--shard-size", "1GB"]):
        ended = bhk("export", converted, "-o", "out", *options, environment={"COLUMNS": "100"})
        assert (ended.status, ended.out) == (2, "")
        assert "it does not go together with --format" in ended.err


def test_a_file_of_another_model_cannot_become_onnx(bhk: Shell, converted: Path) -> None:
    pytest.importorskip("onnx")
    message = bhk.fails("export", converted, "-o", "out", "--format", "onnx")
    assert "does not say which model it holds" in message
    assert not (bhk.folder / "out").exists()
