"""bhk and GPTQ calibrated with the same inputs, and the coders that look at the weights alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import bhk
from bhk.calibration.options import Samples
from tools.bench.coders.base import Coder
from tools.bench.coders.bhk import Bhk
from tools.bench.coders.gptq import Gptq, write_moments
from tools.bench.coders.peers import Hqq, RoundToNearest

LIMIT = 8  # pictures, or batches of random tokens
PLAIN_RATIOS = (6, 7, 8.5, 10)  # beside the preset's, about 7.5


def plain(*, quick: bool = False) -> Iterator[Coder]:
    """Yield coders that look at the weights alone; with `quick` two of them."""
    yield Bhk("birkhoff", name="published method")
    yield Bhk("balanced")
    if not quick:
        yield from (Bhk(f"ratio {ratio}", bhk.Quality(ratio=ratio)) for ratio in PLAIN_RATIOS)
        yield from map(Hqq, (4, 3))
        yield from (RoundToNearest(bits, 64) for bits in (5, 4, 3))


def calibrated(
    checkpoint: Path, inputs: str, samples: Samples, ratios: Sequence[float], folder: Path
) -> Iterator[Coder]:
    """Yield bhk at its default and at these ratios. What calibration finds is put into `folder` once, for all processes.

    Args:
        inputs: what the model is shown, in words.
        samples: the same for `bhk.Calibration`; samples of our own are measured again for each ratio.
    """
    work_dir = folder / inputs if isinstance(samples, str) else None
    calibration = bhk.Calibration(samples, limit=LIMIT, work_dir=work_dir)
    if work_dir:
        bhk.convert(checkpoint, folder / "first.bhk", calibration=calibration, force=True)
    yield Bhk("balanced", calibration=calibration, name=f"bhk, {inputs}")
    for ratio in ratios:
        yield Bhk(f"ratio {ratio}", bhk.Quality(ratio=ratio), calibration, name=f"bhk, {inputs}")


def gptq(checkpoint: Path, inputs: str, samples: Samples, folder: Path, *, quick: bool = False) -> Iterator[Coder]:
    """Yield GPTQ over its range, on the same inputs; with `quick` at 4 bits."""
    moments = folder / f"{inputs}.safetensors"
    write_moments(checkpoint, bhk.Calibration(samples, limit=LIMIT), moments)
    yield from (Gptq(bits, moments, name=f"GPTQ, {inputs}") for bits in ((4,) if quick else (5, 4, 3, 2)))
