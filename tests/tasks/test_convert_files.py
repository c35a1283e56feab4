"""Conversion as seen from the folder: where it reads, what it records of it, where it writes, and how it fails."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
import zstandard

import bhk
from bhk.base.files import DestinationExistsError, WriteError
from bhk.checkpoint import UnsupportedTensorError
from bhk.container.errors import BadNameError
from bhk.conversion.header import MetadataError
from tasks.checkpoints import draw, save, small


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_metadata_tells_where_the_weights_came_from(tmp_path: Path) -> None:
    source = save(tmp_path / "sam.pth", {"model": {f"module.{name}": tensor for name, tensor in small().items()}})
    report = bhk.convert(source, metadata={"license": "Apache-2.0", "source.url": "https://example.org"})
    with bhk.open(report.path) as file:
        assert file.metadata == {
            "source.name": "sam.pth",
            "source.bytes": str(source.stat().st_size),
            "source.dtype": "F32",
            "source.sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
            "checkpoint.wrapper": '["model"]',
            "checkpoint.prefix": "module.",
            "license": "Apache-2.0",
            "source.url": "https://example.org",
            "conversion.quality": "balanced",
            "conversion.torch": torch.__version__.split("+")[0],
            "conversion.zstandard": zstandard.__version__,
        }


@pytest.mark.parametrize(
    "key",
    [
        "source.sha256",
        "source.name",
        "checkpoint.prefix",
        "checkpoint.groups",
        "file.config.json",
        "conversion.quality",
    ],
)
def test_metadata_that_bhk_writes_is_not_the_users(key: str) -> None:
    with pytest.raises(MetadataError, match=key):  # before the source is read
        bhk.convert("none.pth", metadata={key: "x"})


def test_the_hash_of_a_sharded_source_is_that_of_its_shards_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    folder.mkdir()
    shards = {f"model-0000{i}-of-00002.safetensors": draw({f"b.{3 - i}.weight": (40, 40)}, seed=i) for i in (2, 1)}
    for name, tensors in shards.items():
        safetensors.torch.save_file(tensors, folder / name)
    index = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    report = bhk.convert(folder)
    assert report.path == tmp_path / "sharded.bhk"
    data = b"".join((folder / name).read_bytes() for name in sorted(shards))
    with bhk.open(report.path) as file:
        assert file.metadata["source.sha256"] == hashlib.sha256(data).hexdigest()
        assert file.metadata["source.bytes"] == str(len(data))
        assert file.metadata["source.name"] == "sharded"
    bhk.verify(report.path, folder)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("sam.pth", "sam.bhk"),
        ("sub/sam.pth", "sub/sam.bhk"),
        ("sam2.1_hiera", "sam2.1_hiera.bhk"),
        ("vits.pt.zip", "vits.bhk"),
        ("with space ü.bin", "with space ü.bhk"),
    ],
)
def test_the_default_destination_lies_beside_the_source(here: Path, source: str, expected: str) -> None:
    (here / "sub").mkdir()
    save(Path(source), small())
    assert bhk.convert(source).path == Path(expected)
    assert Path(expected).is_file()


def test_the_default_destination_of_a_link_lies_beside_the_link(here: Path) -> None:
    (here / "blobs").mkdir()
    save(here / "blobs" / "0123abcd", small())
    Path("model.pth").symlink_to("blobs/0123abcd")
    assert bhk.convert("model.pth").path == Path("model.bhk")
    assert [path.name for path in (here / "blobs").iterdir()] == ["0123abcd"]


def test_the_default_destination_of_an_index_lies_beside_it(tmp_path: Path) -> None:
    bhk.convert(save(tmp_path / "a.pth", small()), tmp_path / "a.bhk")
    index = bhk.export(tmp_path / "a.bhk", tmp_path / "model.safetensors", shard_bytes=6000).files[-1].path
    assert index.name == "model.safetensors.index.json"
    assert bhk.convert(index).path == tmp_path / "model.bhk"


def test_the_source_is_never_the_destination(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", small())
    os.link(source, tmp_path / "hard.bhk")
    (tmp_path / "soft.bhk").symlink_to(source)
    before = source.read_bytes()
    for name in ("a.pth", "hard.bhk", "soft.bhk"):
        with pytest.raises(WriteError, match="is the file that is being read"):
            bhk.convert(source, tmp_path / name, force=True)
    assert source.read_bytes() == before
    assert (tmp_path / "soft.bhk").is_symlink()


@pytest.mark.parametrize("force", [False, True])
def test_a_second_checkpoint_is_no_destination(tmp_path: Path, force: bool) -> None:
    source, other = save(tmp_path / "a.pth", small()), save(tmp_path / "b.pth", {"precious": torch.ones(3)})
    before = other.read_bytes()
    with pytest.raises(WriteError, match=r"b\.pth"):  # `bhk convert *.pth`
        bhk.convert(source, other, force=force)
    assert other.read_bytes() == before
    with pytest.raises(WriteError, match=r"ends in \.bhk"):  # before the source is read
        bhk.convert("none.pth", tmp_path / "new.safetensors", force=force)
    assert not (tmp_path / "new.safetensors").exists()


def test_an_existing_destination_needs_force(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", small())
    (tmp_path / "a.bhk").write_bytes(b"old")
    with pytest.raises(DestinationExistsError, match="use force=True to overwrite it"):
        bhk.convert(source)
    assert (tmp_path / "a.bhk").read_bytes() == b"old"
    bhk.convert(source, force=True)
    bhk.verify(tmp_path / "a.bhk", source)


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        ({"a\x1b[31m.weight": torch.ones(40, 40)}, BadNameError, r"a\\x1b\[31m\.weight"),
        ({"n" * 1025: torch.ones(40, 40)}, BadNameError, "1025 bytes"),
        ({"scale": torch.ones(4).to(torch.float8_e8m0fnu)}, UnsupportedTensorError, "'scale' is torch.float8_e8m0fnu"),
    ],
)
def test_what_the_format_lacks_is_said_before_the_work(
    tmp_path: Path, tensors: dict[str, torch.Tensor], error: type[Exception], message: str
) -> None:
    source = save(tmp_path / "a.pth", {**tensors, "b.weight": torch.ones(64, 64)})
    done: list[int] = []
    with pytest.raises(error, match=message):
        bhk.convert(source, progress=lambda stage, part, whole: done.append(part))
    assert done == []
    assert list(tmp_path.iterdir()) == [source]


def test_progress_counts_dense_bytes(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    report = bhk.convert(save(tmp_path / "a.pth", small()), progress=lambda *told: seen.append(told))
    assert len(seen) == 3
    assert sorted(seen) == seen
    assert seen[-1] == ("Encoding", report.source_bytes, report.source_bytes)


@contextlib.contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    """Let the system refuse to make any file larger than `size`, as a full disk would."""
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("size", [10, 10_000, 200_000])
def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path, size: int) -> None:
    source = save(tmp_path / "a.pth", draw({f"blocks.{i}.weight": (256, 256) for i in range(8)}))
    (tmp_path / "a.bhk").write_bytes(b"old")
    with _file_size_limit(size), pytest.raises(WriteError, match=r"cannot write .*a\.bhk: File too large"):
        bhk.convert(source, force=True)
    assert (tmp_path / "a.bhk").read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.bhk", source]


def test_a_failure_in_between_leaves_the_old_file_alone(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", small())
    (tmp_path / "a.bhk").write_bytes(b"old")

    def fail(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bhk.convert(source, force=True, progress=fail)
    assert (tmp_path / "a.bhk").read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.bhk", source]


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_a_flipped_bit_in_the_source_is_refused_or_is_in_the_weights(tmp_path: Path, form: str) -> None:
    source = tmp_path / "sound"
    if form == "safetensors":
        safetensors.torch.save_file(small(), source)
    else:
        torch.save(small(), source, _use_new_zipfile_serialization=form == "zip")
    data = source.read_bytes()
    refused = []
    for place in [*range(0, 400, 17), *range(400, len(data), 1501), *range(len(data) - 300, len(data), 17)]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 7)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            bhk.convert(tmp_path / "damaged", tmp_path / "a.bhk", force=True)
        except bhk.BhkError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all(message.isprintable() for message in refused)
