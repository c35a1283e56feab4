"""bhk itself as a coder, through a .bhk file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bhk.nn.hyperlinear import Compute
from tools.bench.coders.base import Coder, StateDict

if TYPE_CHECKING:
    from bhk import Calibration, Quality


@dataclass(frozen=True)
class Bhk(Coder):
    """A preset, or another quality and a calibration under a name of their own; see `bhk.convert`.

    Attributes:
        compute: how a model loaded from the file computes; see `bhk.load`.
    """

    setting: str
    quality: Quality | None = None
    calibration: Calibration | None = None
    compute: Compute = "exact"
    name: str = "bhk"
    package: str = "bhk"

    @property
    def note(self) -> str:
        measured = self.calibration is not None and self.calibration.steps == "measured"
        exact = "buffers" if measured or self.setting == "birkhoff" else "buffers and one-dimensional tensors"
        return f"{exact} exact; loading checks every hash"

    def encode(self, source: Path, target: Path) -> None:
        import bhk

        bhk.convert(source, target, self.quality or self.setting, force=True, calibration=self.calibration)

    def decode(self, path: Path) -> StateDict:
        import bhk

        return bhk.load_state_dict(path)
