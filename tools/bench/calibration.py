"""Rate against fidelity over the whole range: bhk with calibration and without, GPTQ on the same inputs, and plain coders.

    python -m tools.bench.calibration demo_sam
    python -m tools.bench.calibration held_out_sam --checkpoint other_sam.safetensors
    python -m tools.bench.calibration minilm

A small SAM is calibrated with pictures made by rule, all-MiniLM-L6-v2 with random tokens and with 100 plain sentences;
fidelity is measured with other pictures and other sentences.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import bhk
from bhk.calibration.options import Samples
from tools.bench import minilm
from tools.bench.coders.bhk import Bhk
from tools.bench.coders.gptq import Gptq, write_moments
from tools.bench.coders.peers import Coder, Hqq, RoundToNearest
from tools.bench.frame.results import Row, show, write_csv
from tools.bench.models import mask_fidelity
from tools.bench.models.sentence_encoder import CALIBRATION_SENTENCES, CHECKPOINT, load_sentences, tokenize

MINILM = "minilm"
SAMPLES = 8  # pictures, or batches of random tokens
PUBLISHED = Bhk("birkhoff", name="published method")
SAM_RATIOS = (7, 8, 9, 10, 10.5, 11, 12, 13, 14)
NOISE_RATIOS = (8, 10, 12)
MINILM_RATIOS = (6, 6.9, 7, 8, 8.5, 9, 10, 12)
PLAIN_RATIOS = (6, 7, 8.5, 10)  # beside the preset's, about 7.5


def calibrated(
    checkpoint: Path, inputs: str, samples: Samples, ratios: Sequence[float], folder: Path
) -> Iterator[Coder]:
    """Yield bhk at its default and at these ratios; what calibrating finds is put into `folder` once, for all processes.

    Args:
        inputs: what the model is shown, in words.
        samples: the same for `bhk.Calibration`; samples of our own are measured again for each ratio.
    """
    work_dir = folder / inputs if isinstance(samples, str) else None
    calibration = bhk.Calibration(samples, limit=SAMPLES, work_dir=work_dir)
    if work_dir:
        bhk.convert(checkpoint, folder / "first.bhk", calibration=calibration, force=True)
    yield Bhk("balanced", calibration=calibration, name=f"bhk, {inputs}")
    for ratio in ratios:
        yield Bhk(f"ratio {ratio}", bhk.Quality(ratio=ratio), calibration, name=f"bhk, {inputs}")


def gptq(checkpoint: Path, inputs: str, samples: Samples, folder: Path) -> Iterator[Coder]:
    """Yield GPTQ over its range, on the same inputs."""
    moments = folder / f"{inputs}.safetensors"
    write_moments(checkpoint, bhk.Calibration(samples, limit=SAMPLES), moments)
    yield from (Gptq(bits, moments, name=f"GPTQ, {inputs}") for bits in (5, 4, 3, 2))


def plain() -> Iterator[Coder]:
    """Yield what looks at the weights alone."""
    yield PUBLISHED
    yield Bhk("balanced")
    yield from (Bhk(f"ratio {ratio}", bhk.Quality(ratio=ratio)) for ratio in PLAIN_RATIOS)
    yield from (Hqq(bits) for bits in (4, 3))
    yield from (RoundToNearest(bits, 64) for bits in (5, 4, 3))


def sam_coders(checkpoint: Path, folder: Path) -> Iterator[Coder]:
    yield from plain()
    yield from calibrated(checkpoint, "dead leaves", "dead-leaves", SAM_RATIOS, folder)
    yield from calibrated(checkpoint, "noise", "noise", NOISE_RATIOS, folder)
    yield from gptq(checkpoint, "dead leaves", "dead-leaves", folder)


def minilm_coders(folder: Path) -> Iterator[Coder]:
    yield from plain()
    tokenized = (tokenize([sentence]) for sentence in load_sentences(CALIBRATION_SENTENCES))
    sentences = [{"input_ids": tokens, "attention_mask": mask} for tokens, mask in tokenized]
    for inputs, samples in (("random tokens", "dead-leaves"), ("sentences", sentences)):
        yield from calibrated(CHECKPOINT, inputs, samples, MINILM_RATIOS, folder)
        yield from gptq(CHECKPOINT, inputs, samples, folder)


def run_sam(source: Path, scenes: int, workers: int) -> list[Row]:
    with mask_fidelity.float32_checkpoint(source) as checkpoint:
        coders = sam_coders(checkpoint, checkpoint.parent)
        return mask_fidelity.run(mask_fidelity.Work(checkpoint, scenes), coders, workers)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("name", help=f"of the results: {MINILM} for that model, any other name for a SAM")
    parser.add_argument("--checkpoint", type=Path, default=mask_fidelity.CHECKPOINT, help="a SAM, .safetensors")
    parser.add_argument(
        "--scenes", type=int, default=mask_fidelity.SCENES, help="shown to a SAM (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes for a SAM, of a thread each (default: 2)")
    arguments = parser.parse_args()
    if arguments.name == MINILM:
        with tempfile.TemporaryDirectory() as folder:
            rows, shown = minilm.run(minilm_coders(Path(folder))), minilm.SHOWN
    else:
        rows = run_sam(arguments.checkpoint, arguments.scenes, arguments.workers)
        shown = mask_fidelity.SHOWN
    show(rows, shown)
    print(write_csv(f"calibration_{arguments.name}", rows))


if __name__ == "__main__":
    main()
