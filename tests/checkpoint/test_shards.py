from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from bhk.checkpoint import CheckpointError, CorruptCheckpointError, PartOfCheckpointError, UnknownWeightsError, read

_A, _B = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def _folder(path: Path, weight_map: object, shards: dict[str, list[str]]) -> Path:
    for file, names in shards.items():
        safetensors.torch.save_file({name: torch.full((2,), float(i)) for i, name in enumerate(names)}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    _folder(tmp_path, {"z": _B, "b": _A, "a": _A}, {_A: ["a", "b"], _B: ["z", "unlisted"]})
    for source in (tmp_path, tmp_path / "model.safetensors.index.json"):
        checkpoint = read(source)
        assert list(checkpoint.tensors) == ["a", "b", "unlisted", "z"]
        assert checkpoint.source.files == (tmp_path / _A, tmp_path / _B)
        assert checkpoint.source.size == sum((tmp_path / name).stat().st_size for name in (_A, _B))
    assert checkpoint.tensors["b"].tolist() == [1, 1]


def test_sharded_bin_files_are_read_with_ties(tmp_path: Path) -> None:
    tied = torch.ones(2)
    torch.save({"module.a": tied, "module.c": tied}, tmp_path / "m-00001-of-00002.bin")
    torch.save({"module.b": torch.zeros(2)}, tmp_path / "m-00002-of-00002.bin")
    weight_map = {f"module.{n}": f"m-0000{i}-of-00002.bin" for n, i in {"a": 1, "b": 2, "c": 1}.items()}
    (tmp_path / "m.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    checkpoint = read(tmp_path)
    assert list(checkpoint.tensors) == ["a", "b"]
    assert checkpoint.aliases == {"a": ("c",)}
    assert checkpoint.layout.prefix == "module."


@pytest.mark.parametrize(
    ("weight_map", "shards", "message"),
    [
        ({"a": _A, "b": _B}, {_A: ["a"]}, "missing shards: model-00002"),
        ({"a": _A, "b": _A}, {_A: ["a"]}, "'b' .*in no shard"),
        ({"a": _A, "b": _A}, {_A: ["a"], _B: ["b"]}, "'b' .*in no shard"),
        ({"a": _A, "b": _A, "c": _B}, {_A: ["a"], _B: ["b", "c"]}, "'b' .*it is in model-00002"),
        ({"a": _A, "b": _B}, {_A: ["a", "b"], _B: ["b"]}, "'b' is in two shards"),
        ({"a": "../" + _A}, {}, "file in its folder"),
        ({"a": "x/../../" + _A}, {}, "file in its folder"),
        ({"a": "/etc/passwd"}, {}, "file in its folder"),
        ({"a": "..\\x.bin"}, {}, "file in its folder"),
        ({"a": "C:x.bin"}, {}, "file in its folder"),
        ({"a": ""}, {}, "file in its folder"),
        ({"a": 3}, {}, "file in its folder"),
        ({}, {}, "no weight_map"),
        ([], {}, "no weight_map"),
    ],
)
def test_a_wrong_index(tmp_path: Path, weight_map: object, shards: dict[str, list[str]], message: str) -> None:
    with pytest.raises(CorruptCheckpointError, match=message):
        read(_folder(tmp_path, weight_map, shards))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"weight_map": {"a": "x", "a": "y"}}', "\udcff"])
def test_an_index_that_is_not_a_json_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CorruptCheckpointError, match="damaged"):
        read(tmp_path)


def test_shards_have_no_keys(tmp_path: Path) -> None:
    with pytest.raises(UnknownWeightsError):
        read(_folder(tmp_path, {"a": _A}, {_A: ["a"]}), key="ema")


def test_a_wrapped_shard_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "m-00001-of-00001.bin")
    (tmp_path / "m.bin.index.json").write_text(json.dumps({"weight_map": {"a": "m-00001-of-00001.bin"}}))
    with pytest.raises(CheckpointError, match="m-00001-of-00001"):
        read(tmp_path)


def test_a_single_shard_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    _folder(tmp_path, {"a": _A, "b": _B}, {_A: ["a"], _B: ["b"]})
    with pytest.raises(
        PartOfCheckpointError, match=r"is shard 2 of 2 of a checkpoint; give its folder, or its index"
    ) as caught:
        read(tmp_path / _B)
    assert "(model.safetensors.index.json)" in str(caught.value)
    alone = tmp_path / "pytorch_model-00001-of-00001.bin"
    torch.save({"a": torch.ones(2)}, alone)
    assert list(read(alone).tensors) == ["a"]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"),
        ("consolidated.00.pth", "consolidated.01.pth"),
        ("zero_pp_rank_0_mp_rank_00_model_states.pt", "zero_pp_rank_1_mp_rank_00_model_states.pt"),
    ],
)
def test_the_part_of_one_process_is_not_taken_for_the_whole(tmp_path: Path, name: str, other: str) -> None:
    for file in (name, "epoch_1.pth", "epoch_2.pth", "lora_rank_4.pth", "lora_rank_8.pth"):
        torch.save({"a": torch.ones(2)}, tmp_path / file)
        assert list(read(tmp_path / file).tensors) == ["a"]
    torch.save({"a": torch.ones(2)}, tmp_path / other)
    for file in (name, other):
        with pytest.raises(PartOfCheckpointError, match="is one of 2 parts of a checkpoint") as caught:
            read(tmp_path / file)
        assert name in str(caught.value)
        assert other in str(caught.value)
    assert list(read(tmp_path / "epoch_1.pth").tensors) == ["a"]
