"""Writing a planned conversion, and estimating its size."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from tasks.checkpoints import draw, save

from bhk.base.files import WriteError
from bhk.base.progress import Progress, silent
from bhk.container.reader import Container
from bhk.conversion.coder import coder_for
from bhk.conversion.plan import plan
from bhk.conversion.prepare import prepare
from bhk.conversion.quality import Quality
from bhk.conversion.writing import Written, estimate, write

_SHAPES = {"a.weight": (90, 128), "b.weight": (64, 71), "c.bias": (48,)}


def _written(source: Path, *, preset: str = "balanced", dry_run: bool = False, progress: Progress = silent) -> Written:
    job = prepare(
        source, None, Quality(preset), None, key=None, config=None, metadata={}, threads=2, force=False, dry_run=dry_run
    )
    with coder_for(job, silent) as coder:
        tensors = plan(job, coder, silent)
        return estimate(job, tensors) if dry_run else write(job, tensors, coder, progress)


def test_the_file_holds_what_is_returned_and_the_hash_of_its_source(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", draw(_SHAPES))
    written = _written(source)
    path = tmp_path / "a.bhk"
    with Container.open(path) as container:
        header = container.header
    assert (written.layers, written.bytes) == (header.layers, path.stat().st_size)
    assert header.metadata["source.sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert set(written.coding_seconds) == {"a.weight", "b.weight"}
    assert all(layer.error is not None for layer in header.layers if layer.encoding == "trajectory")


def test_equal_codebooks_are_stored_once(tmp_path: Path) -> None:
    tensor = draw({"a": (48, 40)})["a"]
    _written(save(tmp_path / "a.pth", {"a.weight": tensor, "b.weight": tensor.clone(), "c.weight": tensor * 3}))
    with Container.open(tmp_path / "a.bhk") as container:
        header = container.header
    indices = {layer.name: layer.codebook for layer in header.layers}
    assert indices["a.weight"] == indices["b.weight"] != indices["c.weight"]
    assert len(header.codebooks) == 2


def test_a_tensor_that_cannot_be_coded_is_kept_with_a_warning(tmp_path: Path) -> None:
    tensors = draw(_SHAPES)
    tensors["a.weight"][0, 0] = torch.nan
    written = _written(save(tmp_path / "a.pth", tensors))
    (warning,) = written.warnings
    assert warning.startswith("a.weight ")
    assert warning.endswith("; it is kept exact")
    layer = next(layer for layer in written.layers if layer.name == "a.weight")
    assert (layer.encoding, layer.codebook, layer.error) == ("exact", None, None)


def test_zeros_that_are_lost_are_told(tmp_path: Path) -> None:
    tensors = draw(_SHAPES)
    tensors["a.weight"][:, ::2] = 0
    source = save(tmp_path / "a.pth", tensors)
    (warning,) = _written(source, preset="birkhoff").warnings
    assert warning.startswith(
        "zeros become other values in a.weight, because the published method has no point at zero"
    )
    (tmp_path / "a.bhk").unlink()
    assert _written(source).warnings == ()
    far = draw(_SHAPES)["a.weight"] * 1e-3 + 3
    far[5, :3] = 0
    (tmp_path / "a.bhk").unlink()
    (warning,) = _written(save(tmp_path / "a.pth", {"a.weight": far})).warnings
    assert "zeros become other values in a.weight, because their other weights lie too far from zero" in warning


def test_an_estimate_writes_nothing_and_is_close(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", draw(_SHAPES))
    guess = _written(source, dry_run=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
    assert all(not layer.streams and layer.error is None for layer in guess.layers)
    assert guess.bytes == pytest.approx(_written(source).bytes, rel=0.05)


def test_progress_ends_with_all_bytes_of_the_dense_tensors(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    _written(save(tmp_path / "a.pth", draw(_SHAPES)), progress=lambda *call: calls.append(call))
    total = sum(tensor.nbytes for tensor in draw(_SHAPES).values())
    assert {(stage, whole) for stage, _, whole in calls} == {("Encoding", total)}
    amounts = [done for _, done, _ in calls]
    assert amounts == sorted(amounts)
    assert amounts[-1] == total


def test_a_failure_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", draw(_SHAPES))

    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _written(source, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
    (tmp_path / "a.bhk").write_bytes(b"old")
    with pytest.raises(WriteError):
        _written(source)
    assert (tmp_path / "a.bhk").read_bytes() == b"old"
