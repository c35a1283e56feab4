"""How finely a model is to be coded: `bhk.Quality`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from bhk.base.errors import option
from bhk.codec.fit import PresetError, check_snr, find_preset


@dataclass(frozen=True)
class Quality:
    """How finely a model is to be coded: by a preset, or by one number in its place.

    Signal-to-noise ratios are in dB: 10 log10 of the power of the weights over the power of their errors. They are those that
    `bhk inspect`, `verify` and `compare` show.

    >>> bhk.Quality(ratio=10, exact="*.neck.*")
    Quality(preset='balanced', snr_db=None, ratio=10, fidelity=None, exact=('*.neck.*',), only=(), snr_for={})

    Attributes:
        preset: "fine", "balanced", "small", or "birkhoff" (the published method). Steps of `fine` are half as long as those of
            `balanced`; steps of `small`, twice.
        snr_db: signal-to-noise ratio of all coded weights together, 3 to 42 dB, in place of the preset; met within 0.1 dB,
            or exceeded where errors jump. Weights that `snr_for` names do not count.
        ratio: size of the dense tensors divided by the size of the file, in place of the preset; met within 1 %.
        fidelity: mean mask IoU with the original, in place of the preset; for Segment Anything models only. Masks are compared
            for points and boxes in synthetic pictures, or in pictures of the calibration's folder. The search stops at a file
            close to the smallest one that allows.
        exact: patterns (as in `fnmatch`) of the tensors to keep exact.
        only: patterns of the only tensors to code; all others are kept exact.
        snr_for: pattern -> signal-to-noise ratio in dB of each tensor that matches it; the last match counts.

    Raises:
        PresetError: the preset is unknown, a number is out of range, or two of them were given.
    """

    preset: str = "balanced"
    _: KW_ONLY
    snr_db: float | None = None
    ratio: float | None = None
    fidelity: float | None = None
    exact: Sequence[str] = ()
    only: Sequence[str] = ()
    snr_for: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("exact", "only"):
            patterns = getattr(self, name)
            object.__setattr__(self, name, (patterns,) if isinstance(patterns, str) else tuple(patterns))
        object.__setattr__(self, "snr_for", dict(self.snr_for))
        chosen = find_preset(self.preset)
        wanted = {"snr_db": self.snr_db, "ratio": self.ratio, "fidelity": self.fidelity}
        given = [name for name, value in wanted.items() if value is not None]
        if len(given) > 1:
            raise PresetError(f"both {option(given[0])} and {option(given[1])} were given; give one of them")
        if chosen.level_db is None and (given or self.snr_for):
            raise PresetError(
                f"preset {self.preset!r} is the published method, which has one quality only; "
                f"leave out {option('snr_db')}, {option('snr_for')}, {option('ratio')} and {option('fidelity')}"
            )
        for snr_db in (*([] if self.snr_db is None else [self.snr_db]), *self.snr_for.values()):
            check_snr(snr_db)
        if self.ratio is not None and not self.ratio > 1:
            raise PresetError(f"a ratio of {self.ratio:g} was asked for; it must be above 1")
        if self.fidelity is not None and not 0 < self.fidelity < 1:
            raise PresetError(f"a mask IoU of {self.fidelity:g} was asked for; it must be between 0 and 1")

    @property
    def asked(self) -> str:
        """What was asked for, in words: the preset, "30 dB", "ratio 10" or "mask IoU 0.99"."""
        if self.snr_db is not None:
            return f"{self.snr_db:g} dB"
        if self.ratio is not None:
            return f"ratio {self.ratio:g}"
        return self.preset if self.fidelity is None else f"mask IoU {self.fidelity:g}"

    @property
    def is_published(self) -> bool:
        """Whether the published method codes the tensors; it has no steps to choose."""
        return find_preset(self.preset).level_db is None

    @property
    def level_db(self) -> float:
        """The preset's level in dB; see `bhk.conversion.steps`."""
        chosen = find_preset(self.preset).level_db
        assert chosen is not None
        return chosen
