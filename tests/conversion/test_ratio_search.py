from __future__ import annotations

import torch
from tasks.checkpoints import draw

from bhk.codec.fit import sample_tensor
from bhk.conversion.quality import Quality
from bhk.conversion.ratio_search import _samples
from bhk.conversion.selection import select
from bhk.conversion.steps import StepsByLevel


def test_samples_of_all_tensors_lie_in_one_piece_of_memory() -> None:
    tensors = draw({"a.weight": (64, 33), "b.weight": (512, 513), "c.conv.weight": (9, 5, 5, 5)})
    steps = StepsByLevel.of(select(tensors, {}, Quality(), lambda name: 0.0), threads=2)
    samples = _samples(steps)
    for entry, sample in zip(steps.sampled, samples, strict=True):
        assert torch.equal(sample, sample_tensor(tensors[entry.planned.name]))
    assert len({sample.untyped_storage().data_ptr() for sample in samples}) == 1
