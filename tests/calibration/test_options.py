from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bhk.calibration.errors import CalibrationError
from bhk.calibration.options import Calibration


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        ("noise", {"steps": "best"}, "there is no rule 'best' for steps; choose one of table, measured"),
        ("noise", {"limit": 0}, "a limit of 0 samples, seed 0; expected at least 1"),
        ("noise", {"seed": -1}, "seed -1; expected at least 1 sample and a seed from 0"),
        ([1.0], {"work_dir": "work"}, "a work folder cannot tell whether samples are the same"),
    ],
)
def test_options_that_make_no_sense(samples: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        Calibration(samples, **options)


def test_a_work_folder_may_be_a_text() -> None:
    assert Calibration("noise", work_dir="work").work_dir == Path("work")
