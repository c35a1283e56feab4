from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sam.models import small_hf_sam
from torch import nn
from transformers import AutoModel, BertConfig, BertForMaskedLM, PreTrainedModel, SamModel

import bhk
import bhk.transformers
from bhk.base.files import WriteError
from bhk.checkpoint.companions import companions_of
from bhk.container.header import LayerEntry
from bhk.nn import HyperLinear
from bhk.transformers.errors import SaveError
from bhk.transformers.names import Naming

CODED = "vision_encoder.layers.0.attn.qkv.weight"
BIAS = "vision_encoder.layers.0.attn.qkv.bias"


def _same(model: PreTrainedModel, other: PreTrainedModel) -> bool:
    pairs = zip(model.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == twin and torch.equal(a, b) for (name, a), (twin, b) in pairs)


def _without_offsets(layer: LayerEntry) -> tuple[object, ...]:
    return layer.name, layer.codebook, layer.error, [(stream.kind, stream.sha256) for stream in layer.streams]


def test_a_saved_model_equals_the_loaded_one(published: Path, tmp_path: Path) -> None:
    model = SamModel.from_pretrained(published)
    model.save_pretrained(tmp_path / "new" / "saved")
    saved = tmp_path / "new" / "saved"
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.bhk"]
    assert _same(SamModel.from_pretrained(saved), model)
    assert _same(AutoModel.from_pretrained(saved), model)
    bhk.verify(saved / "model.bhk")
    with bhk.open(published / "model.bhk") as old, bhk.open(saved / "model.bhk") as new:
        assert list(map(_without_offsets, new.layers)) == list(map(_without_offsets, old.layers))
        assert new.container.header.codebooks == old.container.header.codebooks
        assert {key: value for key, value in new.metadata.items() if not key.startswith("file.")} == {
            key: value for key, value in old.metadata.items() if not key.startswith("file.")
        }
        config = json.loads(companions_of(new.metadata)["config.json"])
    written = json.loads((saved / "config.json").read_text())
    assert written.pop("transformers_weights") == "model.bhk"
    assert written.pop("quantization_config") == {"quant_method": "bhk", "file": "model.bhk"}
    assert written == config
    assert config["architectures"] == ["SamModel"]


def test_older_weights_are_not_left_beside_the_new(published: Path, tmp_path: Path) -> None:
    small_hf_sam().save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SaveError, match=r"holds model\.safetensors, and transformers would load those older weights"):
        SamModel.from_pretrained(published).save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_tensors_that_changed_are_written_exact(published: Path, tmp_path: Path) -> None:
    model = SamModel.from_pretrained(published)
    with torch.no_grad():
        model.get_parameter(BIAS).add_(1)
        model.vision_encoder.patch_embed.projection.weight.mul_(2)
    model.save_pretrained(tmp_path)
    assert _same(SamModel.from_pretrained(tmp_path), model)
    with bhk.open(published / "model.bhk") as old, bhk.open(tmp_path / "model.bhk") as new:
        changed = [
            a.name for a, b in zip(old.layers, new.layers, strict=True) if _without_offsets(a) != _without_offsets(b)
        ]
        assert sorted(changed) == [BIAS, "vision_encoder.patch_embed.projection.weight"]
        assert new.layer("vision_encoder.patch_embed.projection.weight").encoding == "exact"
    bhk.verify(tmp_path / "model.bhk")


def test_a_model_in_half_precision_keeps_the_streams_of_the_file(published: Path, tmp_path: Path) -> None:
    model = SamModel.from_pretrained(published, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)
    with bhk.open(published / "model.bhk") as old, bhk.open(tmp_path / "model.bhk") as new:
        assert list(map(_without_offsets, new.layers)) == list(map(_without_offsets, old.layers))
    again = SamModel.from_pretrained(tmp_path)
    assert again.dtype == torch.bfloat16
    assert _same(again, model)


def test_a_repository_can_be_saved_over_itself(repository: Path) -> None:
    model = SamModel.from_pretrained(repository)
    with torch.no_grad():
        model.get_parameter(BIAS).zero_()
    for _ in range(2):
        model.save_pretrained(repository)
        assert _same(SamModel.from_pretrained(repository), model)


def test_a_layer_made_dense_is_written_exact(published: Path, tmp_path: Path) -> None:
    model = SamModel.from_pretrained(published)
    block = model.vision_encoder.layers[0].attn
    block.qkv = block.qkv.to_linear()
    with torch.no_grad():
        block.qkv.weight.add_(0.5)
    model.save_pretrained(tmp_path)
    with bhk.open(tmp_path / "model.bhk") as file:
        assert torch.equal(file.tensor(CODED), block.qkv.weight)


def test_tied_tensors_are_saved_once(tmp_path: Path, publish: Callable[..., Path]) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertForMaskedLM(BertConfig(**sizes, vocab_size=90)).save_pretrained(tmp_path / "dense")
    model = BertForMaskedLM.from_pretrained(publish(tmp_path / "dense", tmp_path / "repository"))
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.add_(1)
    model.save_pretrained(tmp_path / "saved")
    assert _same(BertForMaskedLM.from_pretrained(tmp_path / "saved"), model)
    model.cls.predictions.decoder.weight = nn.Parameter(model.cls.predictions.decoder.weight + 1)
    with pytest.raises(
        SaveError, match=r"1 tensor \(cls\.predictions\.decoder\.weight\) of the model not in model\.bhk"
    ):
        model.save_pretrained(tmp_path / "untied")


def test_after_an_error_the_folder_is_unchanged(repository: Path, tmp_path: Path) -> None:
    model = SamModel.from_pretrained(repository)
    before = {path.name: path.read_bytes() for path in repository.iterdir()}

    def refused(message: str, **options: object) -> None:
        with pytest.raises(SaveError, match=message):
            model.save_pretrained(repository, **options)
        assert {path.name: path.read_bytes() for path in repository.iterdir()} == before

    refused(r"push_to_hub=….*`bhk push`", push_to_hub=True)
    refused("variant=…", variant="fp16")
    refused("state_dict=…", state_dict={"a": torch.zeros(1)})
    model.extra = nn.Linear(2, 2)
    refused(r"2 tensors \(extra\.weight, extra\.bias\) of the model not in model\.bhk")
    del model.extra
    layer = model.get_submodule(CODED.removesuffix(".weight"))
    layer.codes[0, 0] += 1
    refused(f"the codes of {CODED} differ from those in model.bhk")
    layer.codes[0, 0] -= 1
    loaded = model.hf_quantizer.loaded
    loaded.naming = Naming(loaded.naming.places, frozenset({"experts.0.weight"}))
    refused(r"converted 1 tensor \(experts\.0\.weight\) of model\.bhk into others, which cannot be written back")
    loaded.naming = Naming(loaded.naming.places, frozenset())
    parameter = model.vision_encoder.pos_embed
    model.vision_encoder.pos_embed = nn.Parameter(parameter.to("meta"))
    refused(r"1 tensor \(vision_encoder\.pos_embed\) of the model without data")
    model.vision_encoder.pos_embed = parameter
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot make the folder"):
        model.save_pretrained(tmp_path / "file" / "folder")
    model.save_pretrained(repository)


def test_a_model_whose_file_is_gone(repository: Path, tmp_path: Path) -> None:
    model = SamModel.from_pretrained(repository)
    os.remove(repository / "model.bhk")
    with pytest.raises(SaveError, match="the file that the model came from is gone"):
        model.save_pretrained(tmp_path / "saved")


def test_only_the_main_process_writes(published: Path, tmp_path: Path) -> None:
    SamModel.from_pretrained(published).save_pretrained(tmp_path / "saved", is_main_process=False)
    assert not (tmp_path / "saved").exists()


def test_dequantized_models_are_plain_models_of_transformers(published: Path, tmp_path: Path) -> None:
    model = SamModel.from_pretrained(published)
    coded = {name: module for name, module in model.named_modules() if isinstance(module, HyperLinear)}
    model.save_pretrained(tmp_path / "coded")
    assert model.dequantize() is model
    for name, module in coded.items():
        assert type(model.get_submodule(name)) is nn.Linear
        assert torch.equal(model.get_submodule(name).weight, module.weight)
    saved = tmp_path / "dense"
    model.save_pretrained(saved)
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]
    assert "bhk" not in (saved / "config.json").read_text()
    assert _same(SamModel.from_pretrained(saved), model)
    assert SamModel.from_pretrained(published).dequantize(dtype=torch.float16).dtype == torch.float16


def test_other_models_are_saved_as_before(tmp_path: Path) -> None:
    small_hf_sam().save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
