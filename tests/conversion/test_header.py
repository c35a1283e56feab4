"""The header before its tensors are encoded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tasks.checkpoints import draw, save

import bhk
from bhk.checkpoint import Checkpoint
from bhk.container.errors import FormatError
from bhk.conversion.header import MetadataError, check_metadata, overhead, start_header, with_layers
from bhk.conversion.quality import Quality
from bhk.conversion.selection import PlannedTensor, select
from bhk.sam.checkpoints import read_checkpoint
from bhk.version import __version__


def _checkpoint(tmp_path: Path) -> Checkpoint:
    tensors = draw({"a.weight": (40, 30), "a.bias": (40,)})
    tensors["tied"] = tensors["a.weight"]
    tensors["half"] = torch.zeros(3, dtype=torch.float16)
    return read_checkpoint(save(tmp_path / "sam.pth", {"model": tensors}), None)[0]


def _planned(checkpoint: Checkpoint) -> tuple[PlannedTensor, ...]:
    return select(checkpoint.tensors, checkpoint.aliases, Quality(), lambda name: 0.0)


@pytest.mark.parametrize("key", ["source.name", "source.sha256", "conversion.torch", "checkpoint.key"])
def test_own_keys_are_refused(key: str) -> None:
    with pytest.raises(MetadataError, match=rf"entry '{key}' itself; choose another key"):
        check_metadata({"license": "mit", key: "x"}, of_files=True)


def test_a_module_may_name_the_files_that_it_came_from() -> None:
    check_metadata({"source.sha256": "0" * 64}, of_files=False)
    with pytest.raises(MetadataError):
        check_metadata({"source.name": "x"}, of_files=False)


def test_it_names_the_source_and_takes_the_users_entries(tmp_path: Path) -> None:
    checkpoint = _checkpoint(tmp_path)
    header = start_header(checkpoint, None, {}, {"license": "mit"}, {"conversion.torch": "2.9"})
    assert (header.generator, header.layers) == (f"bhk {__version__}", ())
    size = (tmp_path / "sam.pth").stat().st_size
    assert header.metadata.items() >= {
        ("source.name", "sam.pth"),
        ("source.dtype", "F16,F32"),
        ("source.bytes", str(size)),
        ("source.sha256", "0" * 64),
        ("license", "mit"),
        ("conversion.torch", "2.9"),
    }


def test_names_that_the_format_forbids_are_found_before_anything_is_encoded(tmp_path: Path) -> None:
    checkpoint, _ = read_checkpoint(save(tmp_path / "a.pth", {"a\n": torch.zeros(3)}), None)
    with pytest.raises(FormatError, match="control character"):
        start_header(checkpoint, None, {}, {}, {})


def test_layers_say_what_is_known_of_each_tensor(tmp_path: Path) -> None:
    checkpoint = _checkpoint(tmp_path)
    header = with_layers(start_header(checkpoint, None, {}, {}, {}), _planned(checkpoint))
    found = {layer.name: (layer.shape, layer.dtype, layer.encoding, layer.aliases) for layer in header.layers}
    assert found == {
        "a.bias": ((40,), "F32", "exact", ()),
        "a.weight": ((40, 30), "F32", "trajectory", ("tied",)),
        "half": ((3,), "F16", "exact", ()),
    }


def test_the_estimate_of_what_is_not_streams_is_close(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", draw({f"blocks.{i}.weight": (40, 30) for i in range(60)}))
    checkpoint, _ = read_checkpoint(source, None)
    guess = overhead(with_layers(start_header(checkpoint, None, {}, {}, {}), _planned(checkpoint)))
    report = bhk.convert(source)
    assert report.path is not None
    streams = sum(stream.stored for layer in report.layers for stream in layer.streams)
    assert guess == pytest.approx(report.path.stat().st_size - streams, rel=0.1)
