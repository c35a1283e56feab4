"""Which tensors of a checkpoint are coded, and how finely relative to each other."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from bhk.base.errors import OptionError
from bhk.checkpoint.roles import is_mask, is_sinusoidal, natural_key, role_of
from bhk.codec.shape import Pairing, Shape
from bhk.codec.tensor import is_codable, published_codes
from bhk.conversion.quality import Quality

MIN_NUMEL = 1024  # smaller tensors stay exact unless they were measured: much depends on tokens and small tables
MIN_MEASURED = 128  # below that, codes with their header entry save nothing
# Token embeddings use three times the step, because their error enters only once, while the errors of layers add up. At a ratio
# of 7.4, the sentence embeddings of all-MiniLM-L6-v2 are off by 8.5e-3 with twice the step, 6.2e-3 with three times, and 5.6e-3
# with four times (1 - cosine).
TABLE_ROWS = 4096
TABLE_SNR_DB = -9.5
MOST_POSITIONS = 1 << 22  # elements of a table that may be one of positions; larger ones are not read to find out


class PatternError(OptionError):
    """A pattern of tensor names matches no tensor."""


def _itself(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class PlannedTensor:
    """What becomes of one tensor.

    Attributes:
        names: the name it is stored under, then its aliases.
        stored: the dense tensor, for its shape and dtype.
        role: what it is to its model: "linear", "conv", "bias", …
        coded: whether it is coded on a trajectory; else it is kept exact.
        finer_db: how many dB its level is above the model's.
        measured: whether `finer_db` was measured on this tensor.
        delicate: whether it is a vector or a small table, which is coded only if it was measured, and never coarsely.
        snr_db: the signal-to-noise ratio asked for this tensor; None if there is none.
        step: lattice step in weight units; None before it is chosen, and for the published method.
        read: returns the tensor with its values.
    """

    names: tuple[str, ...]
    stored: Tensor
    role: str
    coded: bool
    finer_db: float = 0.0
    measured: bool = False
    delicate: bool = False
    snr_db: float | None = None
    step: float | None = None
    read: Callable[[Tensor], Tensor] = field(default=_itself, repr=False)

    @property
    def tensor(self) -> Tensor:
        """The dense tensor with its values; read it, do not write to it.

        Raises:
            ReadError, ChangedError: its file cannot be read, or was changed.
        """
        return self.read(self.stored)

    @property
    def name(self) -> str:
        """The name it is stored under."""
        return self.names[0]

    @property
    def pairing(self) -> Pairing:
        """How its weights are paired: row by row in linear layers, flat in all other tensors."""
        return "rows" if self.role == "linear" else "flat"

    @property
    def pairs(self) -> int:
        """Number of pairs of weights."""
        return Shape(tuple(self.stored.shape), self.pairing).count

    @property
    def numel(self) -> int:
        """Number of weights."""
        return self.stored.numel()

    @property
    def nbytes(self) -> int:
        """Bytes of the dense tensor."""
        return self.stored.numel() * self.stored.element_size()


def select(
    tensors: Mapping[str, Tensor],
    aliases: Mapping[str, Sequence[str]],
    quality: Quality,
    finer_db: Callable[[str], float],
    *,
    buffers: Collection[str] = (),
    measured: bool = False,
    read: Callable[[Tensor], Tensor] = _itself,
) -> tuple[PlannedTensor, ...]:
    """Return what becomes of each tensor, without steps, in the natural order of names.

    Args:
        tensors: name -> tensor, in any order.
        aliases: name -> the tensor's other names.
        quality: its patterns choose tensors.
        finer_db: returns how many dB the level of a tensor should be above the model's.
        buffers: names of tensors that are known to be no weights, whatever their names say; they stay exact.
        measured: whether the sensitivity of the outputs to each tensor will be measured.
        read: returns a tensor with its values.

    Raises:
        PatternError: a pattern of `quality` matches no tensor.
    """
    found = []
    for name, tensor in tensors.items():
        names = tuple(sorted((name, *aliases.get(name, ())), key=natural_key))
        role = "buffer" if name in buffers else _role(names[0], tensor, read)
        finer = finer_db(names[0]) + (TABLE_SNR_DB if _is_vocabulary(names, tensor, role) else 0.0)
        delicate = measured and _is_delicate(tensor, role)
        coded = delicate or _is_worthwhile(tensor, role, quality)
        found.append(PlannedTensor(names, tensor, role, coded, finer, delicate=delicate, read=read))
    found.sort(key=lambda planned: natural_key(planned.name))
    _check_patterns(found, quality)
    selected = tuple(_by_patterns(planned, quality) for planned in found)
    if quality.only and _any_sure(found) and not _any_sure(selected):
        raise PatternError(
            "no tensor that the patterns choose can be coded; buffers, one-dimensional tensors and small ones cannot"
        )
    return selected


def _role(name: str, tensor: Tensor, read: Callable[[Tensor], Tensor]) -> str:
    """Return the role of a tensor; a mask and a fixed table of positions are buffers, whatever their names say."""
    role = role_of(name, tensor)
    if role == "other" and is_mask(read(tensor)):
        return "buffer"
    may_be_fixed = role in ("embedding", "other") and tensor.numel() <= MOST_POSITIONS
    return "buffer" if may_be_fixed and is_sinusoidal(read(tensor)) else role


def _any_sure(tensors: Sequence[PlannedTensor]) -> bool:
    """Tell whether a tensor is coded, whatever measurement finds."""
    return any(planned.coded and not planned.delicate for planned in tensors)


def _is_worthwhile(tensor: Tensor, role: str, quality: Quality) -> bool:
    """Tell whether to code a tensor that no pattern matches."""
    if quality.is_published:
        return published_codes(tensor) and role != "buffer"
    return is_codable(tensor) and tensor.numel() >= MIN_NUMEL and role != "buffer"


def _is_delicate(tensor: Tensor, role: str) -> bool:
    """Tell whether a tensor is coded only if it is measured: a vector, or a table that is not worthwhile."""
    small = tensor.ndim == 1 or tensor.numel() < MIN_NUMEL
    return published_codes(tensor) and small and tensor.numel() >= MIN_MEASURED and role != "buffer"


def _is_vocabulary(names: Sequence[str], tensor: Tensor, role: str) -> bool:
    """Tell whether rows of `tensor` are looked up, as token embeddings are, and no output layer shares it."""
    return role == "embedding" and tensor.ndim == 2 and tensor.shape[0] >= TABLE_ROWS and len(names) == 1


def _check_patterns(tensors: Sequence[PlannedTensor], quality: Quality) -> None:
    for pattern in (*quality.exact, *quality.only):
        if not any(_matches(planned, pattern) for planned in tensors):
            names = [planned.name for planned in tensors]
            like = next(iter(difflib.get_close_matches(pattern, names, n=1, cutoff=0.0)), "")
            raise PatternError(
                f"pattern {pattern!r} matches none of {len(names)} tensors; the closest name is {like!r}"
            )
    for pattern in quality.snr_for:
        if not any(planned.coded and _matches(planned, pattern) for planned in tensors):
            raise PatternError(
                f"pattern {pattern!r} matches no tensor that is coded; buffers, one-dimensional tensors and small ones are not"
            )


def _by_patterns(planned: PlannedTensor, quality: Quality) -> PlannedTensor:
    """Return the tensor as the patterns want it."""
    exact = any(_matches(planned, pattern) for pattern in quality.exact)
    chosen = not quality.only or any(_matches(planned, pattern) for pattern in quality.only)
    own_snr_db = [snr_db for pattern, snr_db in quality.snr_for.items() if _matches(planned, pattern)]
    return replace(planned, coded=planned.coded and chosen and not exact, snr_db=own_snr_db[-1] if own_snr_db else None)


def _matches(planned: PlannedTensor, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in planned.names)
