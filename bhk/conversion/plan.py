"""Planning a conversion: which tensors are coded, and how finely in relation to each other."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from bhk.base.errors import BhkError
from bhk.checkpoint.roles import natural_key, role_of
from bhk.codec.shape import Pairing, Shape
from bhk.codec.tensor import is_codable, published_codes
from bhk.conversion.quality import Quality

MIN_NUMEL = 1024  # smaller tensors are kept exact: tokens and tables on which much depends and little can be saved
# A vocabulary's error enters once, through the rows that are looked up, where those of the layers behind it add up. With twice
# the step all-MiniLM-L6-v2 is 10 % smaller at equal fidelity; with three times, 14 %.
TABLE_ROWS = 4096
TABLE_SNR_DB = -6.0


class PatternError(BhkError):
    """A pattern of tensor names that matches none, or contradicts another."""


@dataclass(frozen=True)
class Item:
    """One tensor of the plan.

    Attributes:
        names: the name it is stored under, then its aliases.
        coded: coded on a trajectory (else kept exact).
        step: lattice step; None with the published method.
        snr_db: ratio asked for this tensor alone.
        finer_db: how much finer its step is than the model's.
        measured: whether that was measured on this very tensor.
    """

    names: tuple[str, ...]
    tensor: Tensor
    role: str
    coded: bool
    finer_db: float = 0.0
    measured: bool = False
    snr_db: float | None = None
    step: float | None = None

    @property
    def pairing(self) -> Pairing:
        """Linear weights are paired row by row, everything else flat."""
        return "rows" if self.role == "linear" else "flat"

    @property
    def pairs(self) -> int:
        """Number of pairs of weights."""
        return Shape(tuple(self.tensor.shape), self.pairing).count

    @property
    def nbytes(self) -> int:
        """Bytes of the dense tensor."""
        return self.tensor.numel() * self.tensor.element_size()


def plan(
    tensors: Mapping[str, Tensor],
    aliases: Mapping[str, Sequence[str]],
    quality: Quality,
    finer_db: Callable[[str], float],
) -> list[Item]:
    """Return what to do with each tensor, in the natural order of names, whatever order the file had.

    Args:
        finer_db: by how many dB the signal-to-noise ratio of a tensor is above the model's.

    Raises:
        PatternError: a pattern of `quality` matches no tensor.
    """
    published = quality.is_published
    items = []
    for name, tensor in tensors.items():
        names = tuple(sorted((name, *aliases.get(name, ())), key=natural_key))
        role = role_of(names[0], tensor)
        codable = published_codes(tensor) if published else is_codable(tensor) and tensor.numel() >= MIN_NUMEL
        finer = finer_db(names[0]) + (TABLE_SNR_DB if _is_table(names, tensor, role) else 0.0)
        items.append(Item(names, tensor, role, codable and role != "buffer", finer))
    items.sort(key=lambda item: natural_key(item.names[0]))
    return _apply_patterns(items, quality)


def _is_table(names: Sequence[str], tensor: Tensor, role: str) -> bool:
    """Tell whether `tensor` is a vocabulary: looked up row by row, and not tied to an output layer."""
    return role == "embedding" and tensor.ndim == 2 and tensor.shape[0] >= TABLE_ROWS and len(names) == 1


def _example(pattern: str, items: Sequence[Item]) -> str:
    """Return the name most like `pattern`."""
    names = [item.names[0] for item in items]
    return next(iter(difflib.get_close_matches(pattern, names, n=1, cutoff=0.0)), "")


def _matches(item: Item, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in item.names)


def _apply_patterns(items: list[Item], quality: Quality) -> list[Item]:
    for pattern in (*quality.exact, *quality.only):
        if not any(_matches(item, pattern) for item in items):
            raise PatternError(
                f"pattern {pattern!r} matches none of {len(items)} tensors, such as {_example(pattern, items)!r}"
            )
    for pattern in quality.snr_for:
        if not any(item.coded and _matches(item, pattern) for item in items):
            raise PatternError(
                f"pattern {pattern!r} matches no tensor that is coded; buffers, vectors and small ones are not"
            )
    planned = []
    for item in items:
        kept = any(_matches(item, pattern) for pattern in quality.exact)
        chosen = not quality.only or any(_matches(item, pattern) for pattern in quality.only)
        own = [snr for pattern, snr in quality.snr_for.items() if _matches(item, pattern)]
        planned.append(replace(item, coded=item.coded and chosen and not kept, snr_db=own[-1] if own else None))
    if quality.only and any(item.coded for item in items) and not any(item.coded for item in planned):
        raise PatternError(
            "the patterns of tensors to code match none that can be; buffers, vectors and small ones cannot"
        )
    return planned
