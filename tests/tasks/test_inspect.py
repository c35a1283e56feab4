from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import bhk
from bhk.base.errors import OptionError
from bhk.base.files import ReadError
from bhk.codec.dtypes import DTYPE_NAMES
from bhk.container.errors import FormatError
from tasks.checkpoints import draw, save


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tensors: dict[str, torch.Tensor] = draw({f"image_encoder.blocks.{i}.qkv.weight": (48, 50) for i in range(11)})
    tensors |= draw({"mask_decoder.up.0.weight": (16, 16, 2, 2), "mask_decoder.out.weight": (40, 40)}, scale=0.2)
    tensors["mask_decoder.out.bias"] = torch.arange(40.0)
    tensors["image_encoder.blocks.3.steps"] = torch.tensor(7)
    tensors["none"] = torch.zeros(0, 3, dtype=torch.float16)
    source = save(tmp_path_factory.mktemp("inspect") / "sam.pth", tensors)
    return bhk.convert(source).path


def test_every_byte_of_the_file_is_accounted_for(path: Path) -> None:
    for by in (None, "role", "block"):
        found = bhk.inspect(path, by=by)
        assert found.preamble + found.header + found.padding + found.streams == found.file_bytes == path.stat().st_size
        assert sum(row.bytes for row in found.rows) == found.total.bytes == found.streams
        assert sum(row.layers for row in found.rows) == found.total.layers == 16
        assert sum(row.weights for row in found.rows) == found.total.weights
        assert sum(row.dense_bytes for row in found.rows) == found.total.dense_bytes
    assert found.ratio == found.float32_ratio == found.total.dense_bytes / path.stat().st_size


def test_rows_say_what_the_layers_are(path: Path) -> None:
    rows = {row.name: row for row in bhk.inspect(path).rows}
    with bhk.open(path) as file:
        assert list(rows) == list(file.names)
        for name, row in rows.items():
            tensor, codebook, layer = file.tensor(name), file.codebook(name), file.layer(name)
            assert (row.shape, row.weights, row.dense_bytes) == (tensor.shape, tensor.numel(), tensor.nbytes)
            assert row.dtype == DTYPE_NAMES[tensor.dtype]
            assert row.bytes == sum(stream.stored for stream in layer.streams)
            assert (row.windings, row.step) == ((codebook.windings, codebook.step) if codebook else (None, None))
    exact = rows["mask_decoder.out.bias"]
    assert (exact.encoding, exact.role, exact.snr_db, exact.max_abs) == ("exact", "bias", None, 0)
    assert (rows["none"].bits, rows["none"].ratio) == (0, None)
    coded = rows["mask_decoder.out.weight"]
    assert coded.bits == 8 * coded.bytes / 1600
    assert coded.ratio == 6400 / coded.bytes


def test_groups_by_role_and_by_block(path: Path) -> None:
    roles = {row.name: row for row in bhk.inspect(path, by="role").rows}
    assert {name: row.layers for name, row in roles.items()} == {
        "linear": 12, "conv": 1, "bias": 1, "buffer": 1, "other": 1
    }  # fmt: skip
    linear = [row for row in bhk.inspect(path).rows if row.role == "linear"]
    assert roles["linear"].snr_db == min(row.snr_db for row in linear)
    assert roles["linear"].max_abs == max(row.max_abs for row in linear)
    assert (roles["linear"].dtype, roles["linear"].encoding, roles["linear"].shape) == ("F32", "trajectory", None)

    blocks = {row.name: row for row in bhk.inspect(path, by="block").rows}
    assert list(blocks) == [f"image_encoder.blocks.{i}" for i in range(11)] + [
        "mask_decoder",
        "mask_decoder.up.0",
        "none",
    ]
    assert blocks["image_encoder.blocks.3"].dtype == "F32,I64"
    assert blocks["image_encoder.blocks.3"].encoding == "trajectory,exact"


def test_the_source_is_named(path: Path) -> None:
    found = bhk.inspect(path)
    assert found.metadata["source.name"] == "sam.pth"
    assert found.generator == f"bhk {bhk.__version__}"


def test_only_the_header_is_read(path: Path, tmp_path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "damaged.bhk").write_bytes(damaged)
    assert bhk.inspect(tmp_path / "damaged.bhk").rows == bhk.inspect(path).rows


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="No such file"):
        bhk.inspect(tmp_path / "none.bhk")
    with pytest.raises(ReadError, match="is a folder"):
        bhk.inspect(tmp_path)
    with pytest.raises(FormatError, match="P2"):
        bhk.inspect(save(tmp_path / "a.pth", {"a": torch.ones(100)}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "colour"}, "there is no 'colour' for by; choose one of role, block"),
        ({"sort": "colour"}, "there is no 'colour' for sort; choose one of name, bytes, bits, ratio, snr, max-error"),
        ({"top": 0}, "top is 0; expected 1 or more"),
        ({"top": -1}, "top is -1; expected 1 or more"),
    ],
)
def test_wrong_options(path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as error:
        bhk.inspect(path, **options)
    assert str(error.value) == message
