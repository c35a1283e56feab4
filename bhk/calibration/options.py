"""What to show a model before it is coded: `bhk.Calibration`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from torch import nn

from bhk.base.errors import option
from bhk.calibration.errors import CalibrationError

# A kind of synthetic samples, a folder of pictures, samples, or a callable that is given the model.
Samples: TypeAlias = str | os.PathLike[str] | Iterable[Any] | Callable[[nn.Module], Any]

StepRule = Literal["table", "measured"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What to show a model before it is coded, so that its outputs change less in a file of the same size.

    >>> bhk.Calibration("dead-leaves", limit=2, seed=1)
    Calibration(samples='dead-leaves', limit=2, seed=1, work_dir=None, steps='measured')

    Attributes:
        samples: "dead-leaves" or "noise" (synthetic pictures with prompts; random tokens for a text encoder), a folder of
            pictures, samples (each one what the model's forward takes: a tensor, a tuple of arguments, or a mapping of
            arguments by name), or a callable that is given the model and returns its outputs.
        limit: how many synthetic samples, or pictures of the folder, to show. Samples that are given are all shown.
        seed: for drawing samples, prompts and noise; an integer from 0.
        work_dir: a folder that keeps intermediate results, so that an interrupted calibration can go on, or another conversion
            can use them; None: a temporary one.
        steps: how lattice steps are shared out among the tensors: "measured" (by the gradients of the outputs) or "table" (by
            each tensor's role in a Segment Anything model; equal steps in other models).

    Raises:
        CalibrationError: an option is out of range, or a work folder was given with samples that cannot be told apart.
    """

    samples: Samples
    _: KW_ONLY
    limit: int = 8
    seed: int = 0
    work_dir: str | os.PathLike[str] | None = None
    steps: StepRule = "measured"

    def __post_init__(self) -> None:
        if self.work_dir is not None:
            object.__setattr__(self, "work_dir", Path(self.work_dir))
        if self.steps not in get_args(StepRule):
            raise CalibrationError(
                f"there is no rule {self.steps!r} for {option('steps')}; choose one of {', '.join(get_args(StepRule))}"
            )
        if self.limit < 1 or self.seed < 0:
            raise CalibrationError(
                f"a limit of {self.limit} samples, seed {self.seed}; expected at least 1 sample and a seed from 0"
            )
        if self.work_dir is not None and not isinstance(self.samples, str | os.PathLike):
            raise CalibrationError(
                f"a work folder cannot tell whether samples are the same as before; leave out {option('work_dir')}"
            )
