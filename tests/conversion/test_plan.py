"""The lattice step of each tensor, for each kind of quality."""

from __future__ import annotations

from pathlib import Path

import pytest
from tasks.checkpoints import draw, save

from bhk.base.progress import silent
from bhk.codec.fit import PresetError
from bhk.conversion.coder import coder_for
from bhk.conversion.plan import plan
from bhk.conversion.prepare import prepare
from bhk.conversion.quality import Quality

_SHAPES = {"blocks.10.weight": (48, 40), "blocks.2.weight": (40, 31), "blocks.2.bias": (48,)}


def _steps(tmp_path: Path, quality: Quality) -> dict[str, float | None]:
    """Return name -> step, as planned for a checkpoint."""
    source = save(tmp_path / "a.pth", draw(_SHAPES))
    job = prepare(source, None, quality, None, key=None, config=None, metadata={}, threads=1, force=True, dry_run=True)
    with coder_for(job, silent) as coder:
        tensors = plan(job, coder, silent)
    assert [planned.name for planned in tensors] == ["blocks.2.bias", "blocks.2.weight", "blocks.10.weight"]
    return {planned.name: planned.step for planned in tensors}


def test_exact_tensors_get_no_step(tmp_path: Path) -> None:
    steps = _steps(tmp_path, Quality(exact="blocks.10.*"))
    assert (steps["blocks.2.bias"], steps["blocks.10.weight"]) == (None, None)
    assert steps["blocks.2.weight"]


def test_the_published_method_fits_its_own(tmp_path: Path) -> None:
    assert set(_steps(tmp_path, Quality("birkhoff")).values()) == {None}


@pytest.mark.parametrize(
    ("coarse", "fine"),
    [
        (Quality("small"), Quality("fine")),
        (Quality(snr_db=15), Quality(snr_db=25)),
        (Quality(ratio=4), Quality(ratio=3)),
    ],
)
def test_what_is_asked_for_decides(tmp_path: Path, coarse: Quality, fine: Quality) -> None:
    wide, narrow = _steps(tmp_path, coarse), _steps(tmp_path, fine)
    for name in ("blocks.2.weight", "blocks.10.weight"):
        assert wide[name] > 1.3 * narrow[name]  # type: ignore[operator]


def test_a_ratio_of_its_own_changes_one_tensor_only(tmp_path: Path) -> None:
    common, own = _steps(tmp_path, Quality()), _steps(tmp_path, Quality(snr_for={"blocks.2.weight": 40.0}))
    assert own["blocks.10.weight"] == common["blocks.10.weight"]
    assert own["blocks.2.weight"] < common["blocks.2.weight"] / 2  # type: ignore[operator]


def test_a_ratio_out_of_reach_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="900"):
        _steps(tmp_path, Quality(ratio=900))
