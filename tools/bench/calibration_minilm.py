"""Ratio and fidelity of all-MiniLM-L6-v2 over the whole range, calibrated and not, beside GPTQ.

The model is calibrated with random tokens, or with 100 plain sentences; fidelity is measured with other sentences.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tools.bench import minilm
from tools.bench.coders.base import Coder
from tools.bench.coders.calibrated import calibrated, gptq, plain
from tools.bench.frame.benchmark import Run
from tools.bench.frame.plot import Figure
from tools.bench.models.sentence_encoder import CALIBRATION_SENTENCES, CHECKPOINT, load_sentences, tokenize

RATIOS = (6, 6.9, 7, 8, 8.5, 9, 10, 12)


def cases(run: Run) -> Iterator[Coder]:
    yield from plain(quick=run.quick)
    tokenized = (tokenize([sentence]) for sentence in load_sentences(CALIBRATION_SENTENCES))
    sentences = [{"input_ids": tokens, "attention_mask": mask} for tokens, mask in tokenized]
    samples = {"random tokens": "dead-leaves", "sentences": sentences[:4] if run.quick else sentences}
    for inputs, shown in samples.items():
        yield from calibrated(CHECKPOINT, inputs, shown, () if run.quick else RATIOS, run.folder)
        yield from gptq(CHECKPOINT, inputs, shown, run.folder, quick=run.quick)


BENCHMARK = dataclasses.replace(
    minilm.BENCHMARK,
    cases=cases,
    csv="calibration_minilm",
    figure=Figure(minilm.TITLE, (minilm.COSINE,), curves=True),
)
