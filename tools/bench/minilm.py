"""Ratio and fidelity of all-MiniLM-L6-v2, whole checkpoint, by bhk and other coders.

Ratio: bytes of the tensors in the checkpoint over bytes of the compressed file, everything counted. Fidelity: mean and
largest 1 - cosine between the sentence embeddings of the original and of the decoded weights, over 200 sentences.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from functools import partial

from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from tools.bench.coders.base import Coder, coder_row, tensor_bytes
from tools.bench.coders.bhk import Bhk
from tools.bench.coders.peers import peers
from tools.bench.frame.benchmark import Benchmark, Row, Run
from tools.bench.frame.plot import Figure, Panel
from tools.bench.frame.timing import alternate
from tools.bench.models.sentence_encoder import CHECKPOINT, embed, load_sentences, tokenize

PRESETS = ("fine", "balanced", "small", "birkhoff")
COSINE = Panel(lambda row: float(row["mean_1_minus_cos"]), "mean 1 - cosine of sentence embeddings (less is better)")
TITLE = "all-MiniLM-L6-v2, 22.7 M float32 weights, 200 sentences"


def cases(run: Run) -> Iterator[Coder]:
    yield from map(Bhk, PRESETS[1:2] if run.quick else PRESETS)
    yield from peers(quick=run.quick)


def measure(coder: Coder, run: Run) -> list[Row]:
    return [coder_row(coder, partial(_figures, coder, run))]


def _figures(coder: Coder, run: Run) -> Row:
    """Encode, decode, and run the decoded model."""
    target = run.folder / "compressed.bhk"
    encode, decode = partial(coder.encode, CHECKPOINT, target), partial(coder.decode, target)
    seconds = {
        name: alternate({name: call}, "cpu", least=1, most=3, enough=10)[name]
        for name, call in (("encode", encode), ("decode", decode))
    }
    (tokens, mask), original = _original()
    loss = 1 - functional.cosine_similarity(embed(decode(), tokens, mask).double(), original.double())
    size = target.stat().st_size
    target.unlink()
    return {
        "bytes": size,
        "ratio": f"{tensor_bytes(CHECKPOINT) / size:.3f}",
        "mean_1_minus_cos": f"{loss.mean():.2e}",
        "max_1_minus_cos": f"{loss.max():.2e}",
        **{f"{name}_seconds": f"{taken:.2f}" for name, taken in seconds.items()},
    }


@functools.cache
def _original() -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return the sentences' tokens and mask, and their embeddings (sentences, 384) by the original weights."""
    tokenized = tokenize(load_sentences())
    return tokenized, embed(load_file(CHECKPOINT), *tokenized)


BENCHMARK = Benchmark(
    cases,
    measure,
    case="coder setting",
    figures="bytes ratio mean_1_minus_cos max_1_minus_cos encode_seconds decode_seconds note version",
    csv="minilm",
    shown="coder setting bytes ratio mean_1_minus_cos max_1_minus_cos encode_seconds decode_seconds note",
    figure=Figure(TITLE, (COSINE,), png="rate_fidelity"),
)
