"""bhk itself under the interface of its peers, through a .bhk file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bhk.nn.hyperlinear import Compute
from tools.bench.coders.peers import StateDict


@dataclass(frozen=True)
class Bhk:
    """A preset, or a name of its own for some `options` of `bhk.convert`.

    Attributes:
        compute: how a model loaded from the file computes; see `bhk.load`.
    """

    setting: str
    options: Mapping[str, object] = field(default_factory=dict)
    compute: Compute = "exact"
    name: str = "bhk"
    package: str = "bhk"

    @property
    def note(self) -> str:
        exact = "buffers" if self.setting == "birkhoff" else "buffers and one-dimensional tensors"
        return f"{exact} exact; loading checks every hash"

    def encode(self, source: Path, target: Path) -> None:
        import bhk

        bhk.convert(source, target, force=True, **(self.options or {"preset": self.setting}))

    def decode(self, path: Path) -> StateDict:
        import bhk

        return bhk.load_state_dict(path)
