"""Convert what takes seconds again, and compare the sizes with those that the documents state.

`python -m tools.sizes` writes tools/bench/results/sizes.csv; `--check` exits with 1 when a size has changed, or when a
result file gives another ratio for the same conversion.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bhk
from tools import demo
from tools.bench.frame.results import RESULTS, machine, read_csv, write_csv
from tools.bench.models.mask_fidelity import float32_checkpoint
from tools.bench.models.sentence_encoder import CHECKPOINT as MINILM
from tools.bench.models.synthetic import make

NAME = "sizes"
PRESETS = ("fine", "balanced", "small", "birkhoff")
TOLERANCE = 0.002  # of a ratio: other versions of zstd write other bytes
VARIANT = "sam_vit_b"


@dataclass(frozen=True)
class Size:
    """The size of a converted file, and of the tensors it was made from.

    Attributes:
        checkpoint: what was converted, in words.
        setting: the preset.
    """

    checkpoint: str
    setting: str
    dense_bytes: int
    bytes: int

    @property
    def ratio(self) -> float:
        """How many times smaller the file is."""
        return self.dense_bytes / self.bytes


def _converted(checkpoint: str, source: Path, presets: tuple[str, ...]) -> Iterator[Size]:
    with tempfile.TemporaryDirectory() as folder:
        for preset in presets:
            report = bhk.convert(source, Path(folder) / f"{preset}.bhk", preset)
            yield Size(checkpoint, preset, report.source_bytes, report.bytes)


def demo_sizes() -> Iterator[Size]:
    """Yield the demo model as `make demo` converts it."""
    with tempfile.TemporaryDirectory() as folder:
        source = demo.write_checkpoint(Path(folder) / "demo_sam.pth")
        yield from _converted("make demo", source, PRESETS[:3])


def bench_sizes() -> Iterator[Size]:
    """Yield the demo model as the benchmarks convert it, with noise below float16's step."""
    with tempfile.TemporaryDirectory() as folder:
        source = float32_checkpoint(demo.CHECKPOINT, Path(folder) / "sam.safetensors")
        yield from _converted("demo SAM", source, PRESETS)


def minilm_sizes() -> Iterator[Size]:
    """Yield all-MiniLM-L6-v2; the preset "birkhoff" takes too long here."""
    yield from _converted("MiniLM", MINILM, PRESETS[:3])


def family_sizes() -> Iterator[Size]:
    """Yield SAM-B with synthetic weights."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"{VARIANT}.pth"
        make(VARIANT, source)
        yield from _converted(VARIANT, source, ("balanced",))


MEASURED: tuple[Callable[[], Iterator[Size]], ...] = (demo_sizes, bench_sizes, minilm_sizes, family_sizes)


def stated(size: Size) -> Iterator[tuple[str, float]]:
    """Yield each result file that states the ratio of this conversion, and the ratio it states."""
    sources = {
        "make demo": (("sizes", {"checkpoint": "make demo", "setting": size.setting}),),
        "demo SAM": (
            ("demo_sam", {"coder": "bhk", "setting": size.setting}),
            ("calibration_demo_sam", {"coder": "bhk", "setting": size.setting}),
            ("calibration_demo_sam", {"coder": "published method", "setting": size.setting}),
        ),
        "MiniLM": (
            ("minilm", {"coder": "bhk", "setting": size.setting}),
            ("calibration_minilm", {"coder": "bhk", "setting": size.setting}),
        ),
        VARIANT: (("family", {"variant": VARIANT, "preset": size.setting}),),
    }
    for name, values in sources[size.checkpoint]:
        for row in read_csv(RESULTS / f"{name}.csv"):
            if values.items() <= row.items() and row["ratio"]:
                yield f"{name}.csv", float(row["ratio"])
    if size.checkpoint == VARIANT:
        for row in read_csv(RESULTS / "conversion.csv"):
            if (row["checkpoint"], row["task"], row["tool"]) == ("SAM-B", "convert", "bhk"):
                yield "conversion.csv", size.dense_bytes / int(row["output_bytes"])


def complaints(size: Size) -> Iterator[str]:
    """Yield a sentence for each result file that states another ratio."""
    for name, ratio in stated(size):
        if abs(ratio / size.ratio - 1) > TOLERANCE:
            yield f"{name}: {size.checkpoint}, {size.setting} has a ratio of {size.ratio:.3f}, not {ratio:.3f}"


def main() -> int:
    sizes = [size for measure in MEASURED for size in measure()]
    if "--check" not in sys.argv[1:]:
        where = machine(None)
        rows = [vars(size) | {"ratio": f"{size.ratio:.3f}"} | where for size in sizes]
        print(write_csv(RESULTS / f"{NAME}.csv", rows))
    found = [complaint for size in sizes for complaint in complaints(size)]
    for complaint in found:
        print(f"tools/bench/results/{complaint}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
