"""Chains of commands on files: whatever comes after what, a file holds the weights that went into it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hub.fake_hub import FakeHub
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule, run_state_machine_as_test

import bhk
from bhk import checkpoint
from bhk.base.files import DestinationExistsError

Weights = dict[str, torch.Tensor]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_NAMES = ("linear.weight", "conv.weight", "table", "bias", "scale", "mask")


@st.composite
def state_dicts(draw: st.DrawFn) -> Weights:
    """Return weights of several shapes and dtypes, some tied, some empty."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    shapes = st.sampled_from([(33, 35), (5, 3, 3, 3), (40, 16), (7,), (), (64, 1)])
    weights: Weights = {}
    for name in draw(st.lists(st.sampled_from(_NAMES), min_size=1, max_size=4, unique=True)):
        values = torch.randn(draw(shapes), generator=generator) * draw(st.sampled_from([0.02, 1.0, 1e-6]))
        weights[name] = values > 0 if name == "mask" else values.to(draw(st.sampled_from(_DTYPES)))
    if len(weights) > 2 and draw(st.booleans()):  # files of mostly empty tensors are refused
        weights["empty"] = torch.zeros(0, 4)
    if draw(st.booleans()):
        weights["tied.weight"] = weights[next(iter(weights))]
    return weights


def same(a: Weights, b: Weights) -> bool:
    """Return whether two state dicts are equal, bit for bit."""
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype
        and a[name].shape == b[name].shape
        and a[name].contiguous().numpy(force=True).tobytes() == b[name].contiguous().numpy(force=True).tobytes()
        if a[name].dtype != torch.bfloat16
        else torch.equal(a[name], b[name])
        for name in a
    )


class Commands(RuleBasedStateMachine):
    """Files that commands have made, and the weights that each holds.

    A file of a bundle is its path; `held` has its weights as they were when it was written.
    """

    folder: Path
    checkpoints = Bundle("checkpoints")
    files = Bundle("files")
    published = Bundle("published")

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[Any, Weights] = {}

    def path(self, suffix: str) -> Path:
        return self.folder / f"{next(_numbers)}{suffix}"

    @rule(target=checkpoints, weights=state_dicts(), wrapped=st.booleans())
    def save(self, weights: Weights, wrapped: bool) -> Path:
        path = self.path(".pth")
        torch.save({"model": weights, "epoch": 3} if wrapped else weights, path)
        self.held[path] = weights
        return path

    @rule(target=files, source=checkpoints, quality=st.sampled_from(["fine", "balanced", "small", "birkhoff"]))
    def convert(self, source: Path, quality: str) -> Path:
        path = self.path(".bhk")
        bhk.convert(source, path, quality, threads=1)
        found = bhk.load_state_dict(path, threads=1)
        original = self.held[source]
        assert found.keys() == original.keys()
        with bhk.open(path) as file:
            exact = [name for name in file.names if file.layer(name).encoding == "exact"]
        assert same({name: found[name] for name in exact}, {name: original[name] for name in exact})
        assert all((found[n].shape, found[n].dtype) == (original[n].shape, original[n].dtype) for n in original)
        bhk.verify(path, source, threads=1)
        self.held[path] = found
        return path

    @rule(target=checkpoints, source=files, suffix=st.sampled_from([".pth", ".safetensors"]))
    def export(self, source: Path, suffix: str) -> Path:
        path = self.path(suffix)
        bhk.export(source, path)
        read = checkpoint.read(path)
        found = {name: read.tensors[stored] for name, stored in read.stored_name.items()}
        assert same(found, self.held[source])
        assert bhk.diff(source, path).equal
        self.held[path] = self.held[source]
        return path

    @rule(target=checkpoints, source=files, limit=st.sampled_from([500, 5_000]))
    def export_shards(self, source: Path, limit: int) -> Path:
        folder = self.path("")
        folder.mkdir()
        bhk.export(source, folder / "model.safetensors", shard_bytes=limit)
        read = checkpoint.read(folder)
        assert same({name: read.tensors[stored] for name, stored in read.stored_name.items()}, self.held[source])
        self.held[folder] = self.held[source]
        return folder

    @rule(a=files | checkpoints, b=files | checkpoints)
    def diff(self, a: Path, b: Path) -> None:
        ours, theirs = self.held[a], self.held[b]
        report = bhk.diff(a, b)
        assert {entry.name for entry in report.tensors} == ours.keys() | theirs.keys()
        for entry in report.tensors:
            name = entry.name
            equal = name in ours and name in theirs and same({name: ours[name]}, {name: theirs[name]})
            assert (entry.status == "equal") == equal, entry

    @rule(source=files, target=published)
    def push(self, source: Path) -> str:
        address = f"user/model{next(_numbers)}"
        bhk.push(source, address)
        self.held[address] = self.held[source]
        return address

    @rule(source=files, address=published)
    def push_another(self, source: Path, address: str) -> None:
        bhk.push(source, address)
        self.held[address] = self.held[source]

    @rule(target=files, source=published)
    def pull(self, source: str) -> Path:
        path = self.path(".bhk")
        bhk.pull(source, path)
        assert same(bhk.load_state_dict(path, threads=1), self.held[source])
        self.held[path] = self.held[source]
        return path

    @rule(source=published)
    def load_from_the_hub(self, source: str) -> None:
        assert same(bhk.load_state_dict(f"hf://{source}", threads=1), self.held[source])
        with bhk.open(f"hf://{source}") as file:
            assert same({name: file.tensor(name) for name in file.names}, self.held[source])

    @rule(source=checkpoints, file=files)
    def refuse_to_replace(self, source: Path, file: Path) -> None:
        with pytest.raises(DestinationExistsError):
            bhk.convert(source, file, threads=1)
        assert same(bhk.load_state_dict(file, threads=1), self.held[file])

    @rule(target=files, source=files, file=consumes(files))
    def replace(self, source: Path, file: Path) -> Path:
        bhk.export(source, dense := self.path(".safetensors"))
        bhk.convert(dense, file, bhk.Quality("balanced", exact=["*"]), force=True, threads=1)
        assert same(bhk.load_state_dict(file, threads=1), self.held[source])
        self.held[file] = self.held[source]
        return file

    @rule(file=consumes(files), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def damage(self, file: Path, place: float, bit: int) -> None:
        data = bytearray(file.read_bytes())
        data[int(place * len(data))] ^= 1 << bit
        broken = self.path(".bhk")
        broken.write_bytes(data)
        for read in _READERS:
            with pytest.raises(bhk.BhkError):
                read(broken)
        assert same(bhk.load_state_dict(file, threads=1), self.held[file])


_numbers = itertools.count()
_READERS: tuple[Callable[[Path], object], ...] = (
    bhk.load_state_dict,
    bhk.verify,
    lambda path: bhk.export(path, path.with_suffix(".pth")),
    lambda path: bhk.diff(path, path),
)


@pytest.mark.parametrize("examples", [6, pytest.param(150, marks=pytest.mark.full)])
def test_commands_in_any_order(hub: FakeHub, tmp_path: Path, examples: int) -> None:
    class Here(Commands):
        folder = tmp_path

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
