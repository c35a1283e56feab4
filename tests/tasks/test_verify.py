from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import safetensors.torch
import torch

import bhk
from bhk.container.errors import FileLengthError, FormatError, HeaderHashError, PaddingError, StreamHashError
from bhk.tasks.verify import VerificationError
from tasks.checkpoints import draw, save


def _tensors() -> dict[str, torch.Tensor]:
    tensors = draw({"a.weight": (64, 64), "b.weight": (64, 64), "c.bias": (64,)})
    tensors["b.weight"][0] *= 30  # outliers, whose errors are the largest
    tensors["d"] = torch.tensor([1, 2, 3])
    return tensors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return bhk.convert(save(tmp_path / "sam.pth", _tensors()), quality=bhk.Quality(snr_for={"b.weight": 36})).path


def test_an_intact_file(path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    found = bhk.verify(path, progress=lambda *told: seen.append(told))
    assert found.bytes == path.stat().st_size
    assert [layer.name for layer in found.layers] == ["a.weight", "b.weight", "c.bias", "d"]
    assert all(layer.difference is None for layer in found.layers)
    with bhk.open(path) as file:
        assert found.streams == sum(len(layer.streams) for layer in file.layers)
    assert found.against is None
    assert seen[-1] == ("Verifying", *[sum(tensor.nbytes for tensor in _tensors().values())] * 2)


def test_the_original_in_either_format(path: Path, tmp_path: Path) -> None:
    safetensors.torch.save_file(_tensors(), tmp_path / "sam.safetensors")
    for name in ("sam.pth", "sam.safetensors"):
        found = bhk.verify(path, tmp_path / name)
        assert found.against == name
        with bhk.open(path) as file:
            for layer in found.layers:
                measured = file.layer(layer.name).error
                assert layer.difference is not None
                assert layer.difference.equal == (measured is None)
                assert layer.difference.max_abs == pytest.approx(measured.max_abs if measured else 0, rel=1e-4)
                if measured:
                    assert layer.difference.snr_db == pytest.approx(measured.snr_db, abs=0.001)


def test_its_own_export_is_recognised(path: Path, tmp_path: Path) -> None:
    bhk.export(path, tmp_path / "again.pth")
    assert bhk.verify(path, tmp_path / "again.pth").against_itself


def _one_exact_weight(tensors: dict[str, torch.Tensor]) -> None:
    tensors["c.bias"][5] = math.nextafter(float(tensors["c.bias"][5]), 1) + 1e-8


def _other_weights(tensors: dict[str, torch.Tensor]) -> None:
    tensors["a.weight"] = draw({"a": (64, 64)}, seed=5)["a"]


def _one_coded_weight(tensors: dict[str, torch.Tensor]) -> None:
    tensors["a.weight"][7, 7] += 0.5


def _a_fine_tune(tensors: dict[str, torch.Tensor]) -> None:
    """No weight moves by more than the largest error of this tensor, which is an outlier's."""
    tensors["b.weight"][1:] += draw({"b": (63, 64)}, scale=2e-3, seed=5)["b"]


def _missing(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["a.weight"]


def _more(tensors: dict[str, torch.Tensor]) -> None:
    tensors["z"] = torch.ones(1)


def _other_shape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["a.weight"] = tensors["a.weight"].reshape(32, 128)


def _other_dtype(tensors: dict[str, torch.Tensor]) -> None:
    tensors["a.weight"] = tensors["a.weight"].double()


def _not_a_number(tensors: dict[str, torch.Tensor]) -> None:
    tensors["a.weight"][1, 1] = math.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_one_exact_weight, "'c.bias' is stored exactly, but differs from other.pth"),
        (_other_weights, r"'a.weight' has a largest error of 0\.\d+ against other.pth, but the file says"),
        (_one_coded_weight, r"'a.weight' has a largest error of 0\.\d+ against other.pth, but the file says"),
        (
            _a_fine_tune,
            r"'b.weight' has a signal-to-noise ratio of 3\d\.\d\d dB against other.pth, but the file says .* dB",
        ),
        (_missing, "1 tensor only in the file, such as 'a.weight'"),
        (_more, "1 tensor only in other.pth, such as 'z'"),
        (
            _other_shape,
            r"'a.weight' is torch.float32 \[64, 64\] in the file, but torch.float32 \[32, 128\] in other.pth",
        ),
        (
            _other_dtype,
            r"'a.weight' is torch.float32 \[64, 64\] in the file, but torch.float64 \[64, 64\] in other.pth",
        ),
        (_not_a_number, "'a.weight' has a largest error of nan against other.pth"),
    ],
)
def test_another_original(path: Path, tmp_path: Path, change: object, message: str) -> None:
    tensors = _tensors()
    change(tensors)  # type: ignore[operator]
    with pytest.raises(VerificationError, match=f"^other.pth is not the original .*: .*{message}"):
        bhk.verify(path, save(tmp_path / "other.pth", tensors))


def test_every_name_of_a_tied_tensor_is_compared(tmp_path: Path) -> None:
    tied = draw({"x": (64, 64)})["x"]
    path = bhk.convert(save(tmp_path / "tied.pth", {"a.weight": tied, "b.weight": tied})).path
    bhk.verify(path, tmp_path / "tied.pth")
    parted = save(tmp_path / "parted.pth", {"a.weight": tied, "b.weight": tied + 1})
    with pytest.raises(VerificationError, match=r"'b\.weight'"):
        bhk.verify(path, parted)


def test_any_flipped_bit_is_found(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    with bhk.open(path) as file:
        streams = [stream for layer in file.layers for stream in layer.streams]
    padding = next(
        one.offset + one.stored for one, other in pairwise(streams) if one.offset + one.stored < other.offset
    )
    found = set()
    places = [
        *range(10),
        *range(12, 64),
        *range(64, len(data), 97),
        padding,
        len(data) - 1,
    ]  # any minor version is read
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        (tmp_path / "damaged.bhk").write_bytes(damaged)
        with pytest.raises(FormatError) as caught:
            bhk.verify(tmp_path / "damaged.bhk")
        found.add(type(caught.value))
    assert found >= {HeaderHashError, StreamHashError, PaddingError, FileLengthError}


def test_the_key_of_the_original(tmp_path: Path) -> None:
    source = save(tmp_path / "two.pth", {"teacher": _tensors(), "student": draw({"x.weight": (40, 40)})})
    path = bhk.convert(source, key="teacher").path
    assert bhk.verify(path, source, key="teacher").against == "two.pth"
    with pytest.raises(VerificationError):
        bhk.verify(path, source, key="student")
