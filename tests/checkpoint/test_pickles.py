"""Pickles of training checkpoints and of attackers."""

from __future__ import annotations

import argparse
import collections
import copyreg
import datetime
import decimal
import enum
import fractions
import io
import pathlib
import pickle
import struct
import types
import uuid
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from bhk.checkpoint import CorruptCheckpointError, NotACheckpointError, UnsafePickleError, UnsupportedTensorError, read
from bhk.checkpoint.pickles import MAX_KEY_DEPTH, Global, RefusedPickleError, StandIn, Storage, _tensor_v2, load
from checkpoint.wrapper import Wrapper


class _Colour(enum.Enum):
    RED = 1


class _Settings(dict):  # type: ignore[type-arg]
    """A dictionary with attributes, as many configurations are."""

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value


class _Average:
    """An object with slots and a state of its own."""

    __slots__ = ("count", "weights")

    def __init__(self) -> None:
        self.count, self.weights = 3, {"w": torch.ones(2)}


_BESIDE = {
    "numpy scalar": np.float64(0.81),
    "numpy integer": np.int64(3),
    "numpy array": np.arange(6.0).reshape(2, 3),
    "numpy strings": np.array(["a", "bc"]),
    "numpy objects": np.array([{"a": 1}, None], dtype=object),
    "numpy dtype": np.dtype("float32"),
    "numpy generator": np.random.default_rng(0),
    "Namespace": argparse.Namespace(lr=1e-4, nested=argparse.Namespace(a=[1, 2])),
    "SimpleNamespace": types.SimpleNamespace(a=1),
    "path": pathlib.PurePosixPath("/x"),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "counter": collections.Counter("abca"),
    "deque": collections.deque([1, 2], maxlen=3),
    "datetime": datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
    "timedelta": datetime.timedelta(seconds=3),
    "decimal": decimal.Decimal("0.1"),
    "fraction": fractions.Fraction(1, 3),
    "uuid": uuid.UUID(int=5),
    "enum": _Colour.RED,
    "class": _Settings,
    "function": np.mean,
    "settings": _Settings(a=1, b={"c": 2}),
    "slots": _Average(),
    "sets": {1, "a", frozenset({(2, 3)})},
    "keys": {(1, (2, 3)): "a", _Colour.RED: "b", torch.device("cpu"): "c"},
    "bytes": [b"ab", bytearray(b"cd"), 1j, 10**400, ...],
    "device, dtype, size": [torch.device("cuda:0"), torch.float16, torch.Size([1, 2])],
    "module": torch.nn.Linear(2, 2),
    "generator state": torch.get_rng_state(),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_whatever_stands_beside_the_weights_is_left_out(tmp_path: Path, protocol: int, legacy: bool) -> None:
    weights = {"a.weight": torch.arange(12.0).view(3, 4), "a.bias": torch.ones(3).half()}
    content = {"epoch": 3, "model": OrderedDict(weights), **_BESIDE}
    torch.save(content, tmp_path / "c.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    checkpoint = read(tmp_path / "c.pth")
    assert list(checkpoint.tensors) == list(weights)
    assert all(torch.equal(checkpoint.tensors[name], weights[name]) for name in weights)
    named = {left.partition(" (")[0]: left for left in checkpoint.left_out}
    assert set(named) == {"epoch", *_BESIDE}
    assert "argparse.Namespace" in named["Namespace"]
    assert "numpy" in named["numpy scalar"]
    assert "torch.nn.modules.linear.Linear, 2 tensors" in named["module"]
    assert "_Average, 1 tensor" in named["slots"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_weights_that_pickle_itself_wrote_are_read(tmp_path: Path, protocol: int) -> None:
    weights = {"a": torch.arange(6.0).view(2, 3), "half": torch.ones(3).half(), "none": torch.ones(0)}
    (tmp_path / "c.pkl").write_bytes(pickle.dumps({"model": weights, **_BESIDE}, protocol))
    checkpoint = read(tmp_path / "c.pkl")
    assert all(torch.equal(checkpoint.tensors[name], tensor) for name, tensor in weights.items())
    assert len(checkpoint.left_out) == len(_BESIDE)


def test_weights_in_a_mapping_of_an_unknown_class_are_found(tmp_path: Path) -> None:
    weights = {"a.weight": torch.ones(2, 2)}
    for holder in (collections.defaultdict(list, weights), _Settings(weights), OrderedDict(weights)):
        torch.save(_Settings(model=holder), tmp_path / "c.pth")
        assert list(read(tmp_path / "c.pth").tensors) == ["a.weight"]


def test_an_object_that_is_the_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "c.pth")
    with pytest.raises(
        NotACheckpointError, match=r"model \(torch\.nn\.modules\.linear\.Linear.*save model\.state_dict"
    ):
        read(tmp_path / "c.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "c.pth")
    with pytest.raises(UnsafePickleError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read(tmp_path / "c.pth")


class _Plain(torch.Tensor):
    """A subclass with a storage of its own, as those of torchvision are."""


def test_subclasses_of_tensor_are_read_where_they_have_data(tmp_path: Path) -> None:
    plain = torch.arange(4.0).as_subclass(_Plain)
    torch.save({"w": plain, "p": torch.nn.Parameter(torch.ones(2))}, tmp_path / "c.pth")
    tensors = read(tmp_path / "c.pth").tensors
    assert [type(tensor) for tensor in tensors.values()] == [torch.Tensor, torch.Tensor]
    assert torch.equal(tensors["w"], torch.arange(4.0))
    torch.save({"w": torch.ones(2), "neck.weight": Wrapper(torch.ones(2))}, tmp_path / "c.pth")
    with pytest.raises(UnsupportedTensorError, match=r"'neck\.weight' is a .*Wrapper, which has no data"):
        read(tmp_path / "c.pth")


def test_a_lazy_parameter_is_named(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), **torch.nn.LazyLinear(3).state_dict()}, tmp_path / "c.pth")
    with pytest.raises(UnsupportedTensorError, match=r"'weight' has no shape yet"):
        read(tmp_path / "c.pth")


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e8m0fnu", "uint16", "complex32", "bool"])
def test_dtypes_of_all_ages_are_read(tmp_path: Path, dtype: str) -> None:
    tensor = torch.arange(8, dtype=torch.uint8).view(getattr(torch, dtype))
    torch.save({"w": tensor[1:], "all": tensor}, tmp_path / "c.pth")
    tensors = read(tmp_path / "c.pth").tensors
    assert tensors["w"].dtype == tensor.dtype
    assert tensors["w"].data_ptr() == tensors["all"].data_ptr() + tensor.element_size()
    assert torch.equal(tensors["all"].view(torch.uint8), torch.arange(8, dtype=torch.uint8))


def test_views_ties_and_conjugates_are_as_they_were(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    number = torch.tensor([1 + 2j])
    content = {
        "whole": base,
        "turned": base.view(3, 4).T,
        "tied": base,
        "conj": number.conj(),
        "none": torch.ones(0, 3),
    }
    for legacy in (False, True):
        torch.save(content, tmp_path / "c.pth", _use_new_zipfile_serialization=not legacy)
        checkpoint = read(tmp_path / "c.pth")
        assert checkpoint.aliases == {"whole": ("tied",)}
        for name, tensor in checkpoint.tensors.items():
            assert torch.equal(tensor, content[name])


# ---------------------------------------------------------------------------------------------- what attackers write


def _load(data: bytes) -> object:
    return load(io.BytesIO(data), len(data))


@pytest.mark.parametrize(
    "name",
    [
        "os system",
        "posix system",
        "subprocess Popen",
        "builtins eval",
        "__builtin__ exec",
        "sys exit",
        "runpy run_path",
    ],
)
def test_a_pickle_that_calls_the_system_is_refused(name: str) -> None:
    module, function = name.split()
    called = f"c{module}\n{function}\n(S'true'\ntR.".encode()
    stacked = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in name.split()) + b"\x93."
    for data in (called, stacked, f"(S'true'\ni{module}\n{function}\n.".encode()):
        with pytest.raises(RefusedPickleError, match=f"{module}.{function}"):
            _load(data)


class _Proof:
    """Is never made, called, or changed."""

    made: list[str] = []  # noqa: RUF012

    def __init__(self, *_: object) -> None:
        self.made.append("init")

    def __setstate__(self, state: object) -> None:
        self.made.append("state")

    def __reduce__(self) -> tuple[object, ...]:
        return _Proof, (1,), {"made": 2}, iter([3]), iter([("a", 4)])

    def append(self, value: object) -> None:
        self.made.append("append")

    def __setitem__(self, key: object, value: object) -> None:
        self.made.append("item")


@pytest.mark.parametrize("protocol", range(6))
def test_no_class_is_made_and_none_of_its_methods_is_called(protocol: int) -> None:
    data = pickle.dumps([_Proof(), _Proof], protocol=protocol)
    _Proof.made.clear()
    made, named = _load(data)  # type: ignore[misc]
    assert _Proof.made == []
    assert isinstance(made, StandIn)
    assert (made.kind, dict(made)) == (f"{__name__}._Proof", {"a": 4})
    assert sorted(made.parts, key=str) == [1, 3, {"made": 2}]
    assert named == Global(f"{__name__}._Proof")


def test_nothing_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    made = _load(b"ctrap\nThing\n)R.")
    assert isinstance(made, StandIn)
    assert made.kind == "trap.Thing"


def test_what_is_known_cannot_be_changed() -> None:
    """BUILD sets attributes where Python's own reader runs it."""
    for name in (
        "collections\nOrderedDict",
        "torch._utils\n_rebuild_tensor_v2",
        "torch\nFloatStorage",
        "torch\nfloat32",
    ):
        _load(f"c{name}\n}}S'__doc__'\nS'changed'\nsb.".encode())
    assert OrderedDict.__doc__ != "changed"


def test_extensions_are_refused() -> None:
    copyreg.add_extension("os", "system", 240)
    try:
        with pytest.raises(pickle.UnpicklingError, match="extension"):
            _load(b"\x80\x02\x82\xf0.")
    finally:
        copyreg.remove_extension("os", "system", 240)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",  # a bytearray longer than the file
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b".",
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(I1\nI2\nI3\ntR.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02]I1\nI2\ns.",
        b"\x80\x02I1\nI2\na.",
        b"\x80\x02(.",
        b"\x80\x02",
        b"",
    ],
)
def test_damaged_pickles_fail_at_once(data: bytes) -> None:
    with pytest.raises((pickle.UnpicklingError, EOFError, IndexError, TypeError, AttributeError, ValueError)):
        _load(data)


def test_keys_that_take_for_ever_to_hash_are_not_hashed() -> None:
    for depth in (20, 200):
        deep = b")" + b"".join(b"2\x86" for _ in range(depth))  # a tuple of two equal tuples, and so on
        program = b"\x80\x02}" + deep + b"I1\ns."
        if depth > MAX_KEY_DEPTH:
            with pytest.raises(pickle.UnpicklingError, match="a key of tuples within tuples, more than 32 deep"):
                _load(program)
            continue
        made = _load(program)
        assert isinstance(made, dict)
        assert list(made.values()) == [1]
        assert str(next(iter(made))) == "a tuple"


def test_a_tensor_beyond_its_storage_is_damage(tmp_path: Path) -> None:
    for legacy in (False, True):
        torch.save({"w": torch.arange(7.0)}, tmp_path / "c.pth", _use_new_zipfile_serialization=not legacy)
        data = (tmp_path / "c.pth").read_bytes()
        assert data.count(b"K\x07\x85") == 1  # the shape (7,)
        for size in (8, 255):
            (tmp_path / "c.pth").write_bytes(data.replace(b"K\x07\x85", bytes([75, size, 0x85])))
            with pytest.raises(CorruptCheckpointError):
                read(tmp_path / "c.pth")


def _of(data: bytes) -> object:
    return load(io.BytesIO(data), len(data))


def test_parts_are_not_copied_again_and_again() -> None:
    text, latin = b"a" * 100_000, b"X\x06\x00\x00\x00latin1q\x01"
    made = b"\x80\x02X" + struct.pack("<I", len(text)) + text + b"q\x00" + latin
    call = b"c_codecs\nencode\nh\x00h\x01\x86R"  # of the two that were made
    assert _of(made + 10 * call + b".") == text
    with pytest.raises(pickle.UnpicklingError, match="the same parts again and again"):
        _of(made + 1000 * call + b".")


@pytest.mark.parametrize("bits", [{"neg": True}, {"conj": True}])
def test_a_negated_tensor_that_repeats_its_storage_takes_no_memory(bits: dict[str, bool]) -> None:
    storage = Storage(torch.zeros(1).untyped_storage(), torch.float32)
    with pytest.raises(pickle.UnpicklingError, match="repeats its storage"):
        _tensor_v2(storage, 0, (1 << 40,), (0,), bits=bits)
    assert _tensor_v2(storage, 0, (1,), (1,), bits=bits).shape == (1,)
