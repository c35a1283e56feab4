from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import bhk
from bhk.file.bhkfile import BhkFile
from bhk.reports.layers import SAMPLE_WEIGHTS, Histogram, OriginalError, Sketch, sample_rows, sketch, sketches


@pytest.fixture(params=["balanced", "birkhoff"])
def file(tmp_path: Path, tensors: dict[str, torch.Tensor], request: pytest.FixtureRequest) -> BhkFile:
    torch.save(tensors, tmp_path / "a.pth")
    path = bhk.convert(tmp_path / "a.pth", quality=request.param, threads=1).path
    assert path is not None
    return bhk.open(path)


def _drawn(file: BhkFile, tensors: dict[str, torch.Tensor] | None) -> dict[str, Sketch]:
    found = sketches(file, tensors and tensors.__getitem__, threads=1)
    drawn = dict(zip((layer.name for layer in file.layers), found, strict=True))
    assert drawn.pop("none.weight") is None
    return {name: each for name, each in drawn.items() if each is not None}


def test_every_sampled_weight_is_counted(file: BhkFile, tensors: dict[str, torch.Tensor]) -> None:
    for name, drawn in _drawn(file, tensors).items():
        tensor = tensors[name]
        assert drawn.original is not None
        assert drawn.sampled == drawn.decoded.counts.sum() == drawn.original.counts.sum()
        if tensor.numel() <= SAMPLE_WEIGHTS:
            assert drawn.sampled == tensor.numel() * (2 if tensor.is_complex() else 1)
        else:
            assert drawn.sampled == pytest.approx(SAMPLE_WEIGHTS, rel=0.05)


def test_only_coded_layers_have_pairs_and_errors(file: BhkFile, tensors: dict[str, torch.Tensor]) -> None:
    for name, drawn in _drawn(file, tensors).items():
        is_coded = file.codebook(name) is not None
        assert (drawn.pairs is not None, drawn.error is not None) == (is_coded, is_coded)
        if drawn.error is not None:
            assert drawn.error.counts.sum() == drawn.sampled
    alone = _drawn(file, None)
    assert all(drawn.original is None and drawn.error is None for drawn in alone.values())
    assert all(drawn.pairs.links is None for drawn in alone.values() if drawn.pairs)


def test_pairs_match_the_codes(file: BhkFile, tensors: dict[str, torch.Tensor]) -> None:
    for name in [name for name in ("heavy.weight", "half.weight") if file.codebook(name)]:  # sampled as a whole
        drawn, codebook, planes = _drawn(file, tensors)[name].pairs, file.codebook(name), file.planes(name)
        assert drawn is not None
        assert codebook is not None
        assert planes is not None
        inside = np.ones(len(planes), bool) if planes.shell is None else planes.shell.numpy() == 0
        assert drawn.outside == pytest.approx(np.count_nonzero(~inside), abs=0.01 * len(planes))  # some lie on its edge
        assert drawn.density.sum() + drawn.outside == len(planes)
        (q0, r0), size = drawn.corner, len(drawn.window)
        q, r = planes.winding.numpy()[inside], planes.phase.numpy()[inside]
        expected = np.zeros((size, size), int)
        for winding, phase in zip(q.astype(int) - q0, r.astype(int) - r0, strict=True):
            if 0 <= winding < size and 0 <= phase < size:
                expected[winding, phase] += 1
        assert np.array_equal(drawn.window, expected)


def test_links_join_pairs_to_steps_less_than_one_away(file: BhkFile, tensors: dict[str, torch.Tensor]) -> None:
    drawn, codebook = _drawn(file, tensors)["half.weight"].pairs, file.codebook("half.weight")
    assert drawn is not None
    assert drawn.links is not None
    assert codebook is not None
    x, y, winding, phase = drawn.links.T
    assert len(drawn.links) > 20
    assert np.abs(y - phase).max() < 0.51
    assert np.abs(x - winding - (phase + drawn.corner[1]) / codebook.windings).max() < 0.53


def test_errors_lie_within_half_a_step(file: BhkFile, tensors: dict[str, torch.Tensor]) -> None:
    drawn = _drawn(file, tensors)["odd.weight"]
    error = drawn.error
    assert error is not None
    assert drawn.pairs is not None
    edges = error.low + error.width * np.arange(len(error.counts) + 1)
    step = file.codebook("odd.weight").step  # type: ignore[union-attr]
    beyond = error.counts[(edges[:-1] > 0.53 * step) | (edges[1:] < -0.53 * step)].sum()
    assert beyond <= 2 * drawn.pairs.outside + 0.01 * error.counts.sum()


def test_runs_of_rows_are_even_and_within(file: BhkFile) -> None:
    runs = sample_rows(file.layer("odd.weight"))
    assert len(runs) == 4
    assert all(run is not None and run.start % 2 == 0 and run.stop <= 700 for run in runs)
    assert sample_rows(file.layer("steps")) == [None]


def test_another_original_is_an_error(file: BhkFile, tensors: dict[str, torch.Tensor]) -> None:
    cases = [
        ("heavy.weight", tensors["heavy.weight"] + 1, "from the original, but by at most"),
        ("heavy.weight", tensors["heavy.weight"][:5], r"\[5, 512\] in the original; give the checkpoint"),
        ("norm.weight", tensors["norm.weight"] * 2, "tensor 'norm.weight' differs by 1 from"),
        ("half.weight", tensors["half.weight"].float(), r"torch\.float16 \[50, 50\] in the file"),
    ]
    for name, other, message in cases:
        with pytest.raises(OriginalError, match=message):
            sketch(file, file.layer(name), {name: other}.__getitem__)


def test_the_outer_bins_of_a_histogram_include_everything_beyond() -> None:
    values = np.array([-9, 0, 0.5, 1.5, 99, np.nan, np.inf])
    found = Histogram.of(values, 0, 1, 3)
    assert found.counts.tolist() == [3, 1, 1]
