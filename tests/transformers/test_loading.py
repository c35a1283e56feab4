from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sam import models
from torch import nn
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    PreTrainedModel,
    Sam3Model,
    Sam3TrackerVideoModel,
    Sam3VideoModel,
    SamHQModel,
    SamModel,
    SamVisionModel,
    modeling_utils,
)
from transformers.quantizers import auto

import bhk
import bhk.transformers
from bhk.container import reader
from bhk.container.errors import FormatError, StreamHashError
from bhk.nn import HyperLinear
from bhk.nn.errors import MismatchError
from bhk.transformers.errors import OffloadError, RepositoryError, SaveError, TyingError

TINY_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 90,
}


def _hyperlinears(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, HyperLinear)]


def _prompted(model: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    picture = torch.randn(1, 3, models.SIZE, models.SIZE, generator=generator)
    with torch.no_grad():
        output = model(
            pixel_values=picture.to(model.dtype), input_points=torch.tensor([[[[30.0, 40.0]]]]).to(model.dtype)
        )
    return {"masks": output.pred_masks.float(), "scores": output.iou_scores.float()}


def _dense(model: nn.Module, repository: Path) -> nn.Module:
    bhk.load_into(model, repository / "model.bhk", mode="dense", threads=1)
    return model


@pytest.mark.parametrize("build", [models.small_hf_sam, models.small_hf_sam2, models.small_hf_sam_hq])
def test_models_of_the_family_give_the_masks_of_their_dense_weights(
    tmp_path: Path, publish: Callable[..., Path], build: Callable[[], Any]
) -> None:
    model = build()
    model.save_pretrained(tmp_path / "dense")
    repository = publish(tmp_path / "dense", tmp_path / "repository")
    loaded, info = type(model).from_pretrained(repository, output_loading_info=True)
    assert not any(info.values())
    assert not loaded.training
    plain = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    assert 20 < len(_hyperlinears(loaded)) <= len(plain)
    expected, found = _prompted(_dense(model, repository)), _prompted(loaded)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "auto"])
def test_dtypes(published: Path, dtype: str) -> None:
    model = SamModel.from_pretrained(published, dtype=dtype)
    expected = torch.float32 if dtype == "auto" else getattr(torch, dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {expected}
    layer = model.get_submodule(_hyperlinears(model)[0])
    assert layer.codebook.dtype == torch.float32
    assert layer(torch.zeros(1, layer.in_features, dtype=expected)).dtype == expected
    assert (_prompted(model)["masks"] - _prompted(SamModel.from_pretrained(published))["masks"]).abs().max() < 0.05


def test_dtype_auto_is_the_dtype_of_the_file_without_one_in_the_configuration(
    repository: Path, change_config: Callable[..., None]
) -> None:
    change_config(repository, dtype=None)
    assert SamModel.from_pretrained(repository, dtype="auto").dtype == torch.float32


def test_a_file_is_opened_and_validated_once(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validated = list[object]()
    validate = reader.validate
    monkeypatch.setattr(reader, "validate", lambda *of, **how: validated.append(of) or validate(*of, **how))
    model = SamModel.from_pretrained(published)
    assert len(validated) == 1
    assert model.hf_quantizer.loaded.file is None


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_device_maps(published: Path, device_map: object) -> None:
    model = SamModel.from_pretrained(published, device_map=device_map)
    expected = _prompted(SamModel.from_pretrained(published))
    torch.testing.assert_close(_prompted(model), expected, atol=0, rtol=0)


def test_offloading_to_the_disk_is_refused(published: Path, tmp_path: Path) -> None:
    with pytest.raises(OffloadError, match="part of SamModel would be offloaded to the disk"):
        SamModel.from_pretrained(
            published, device_map={"": "cpu", "vision_encoder": "disk"}, offload_folder=tmp_path / "offload"
        )


def test_tied_tensors_stay_tied(published: Path) -> None:
    model = SamModel.from_pretrained(published)
    assert model.prompt_encoder.shared_embedding is model.shared_image_embedding or (
        model.prompt_encoder.shared_embedding.positional_embedding is model.shared_image_embedding.positional_embedding
    )


def test_tensors_that_transformers_does_not_tie_are_refused(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The state after loading models in several threads at once.
    monkeypatch.setattr(PreTrainedModel, "tie_weights", lambda *_, **__: None)
    with pytest.raises(TyingError, match=r"did not tie 1 tensor \(prompt_encoder.*in several threads at once"):
        SamModel.from_pretrained(published)


def test_a_text_encoder_by_the_automatic_class(tmp_path: Path, publish: Callable[..., Path]) -> None:
    torch.manual_seed(0)
    BertModel(BertConfig(**TINY_BERT)).save_pretrained(tmp_path / "dense")
    repository = publish(tmp_path / "dense", tmp_path / "repository")
    model = AutoModel.from_pretrained(repository)
    assert len(_hyperlinears(model)) == 2 * 6 + 1
    expected = _dense(BertModel(BertConfig(**TINY_BERT)), repository)
    tokens = torch.tensor([[1, 5, 80, 3]])
    with torch.no_grad():
        torch.testing.assert_close(
            model(tokens).last_hidden_state, expected(tokens).last_hidden_state, atol=1e-5, rtol=0
        )


def test_the_head_that_shares_the_weight_of_the_embedding_stays_dense(
    tmp_path: Path, publish: Callable[..., Path]
) -> None:
    BertForMaskedLM(BertConfig(**TINY_BERT)).save_pretrained(tmp_path / "dense")
    model = BertForMaskedLM.from_pretrained(publish(tmp_path / "dense", tmp_path / "repository"))
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert len(_hyperlinears(model)) == 2 * 6 + 1


def test_names_of_old_checkpoints_and_of_the_base_model(tmp_path: Path, publish: Callable[..., Path]) -> None:
    model = BertForMaskedLM(BertConfig(**TINY_BERT))
    model.save_pretrained(tmp_path / "dense")
    named = load_file(tmp_path / "dense" / "model.safetensors")
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in named.items()}
    (tmp_path / "dense" / "model.safetensors").unlink()
    torch.save(old, tmp_path / "dense" / "pytorch_model.bin")
    loaded = BertForMaskedLM.from_pretrained(publish(tmp_path / "dense", tmp_path / "repository"))
    assert torch.equal(loaded.bert.embeddings.LayerNorm.weight, model.bert.embeddings.LayerNorm.weight)
    with pytest.raises(
        MismatchError, match=r"cls\.predictions.*the file holds a BertForMaskedLM; load it with that class"
    ):
        BertModel.from_pretrained(tmp_path / "repository", add_pooling_layer=False)


def test_weights_of_another_model_are_refused_by_name(repository: Path, change_config: Callable[..., None]) -> None:
    with pytest.raises(MismatchError, match=r"model\.bhk does not fit BertModel: \d+ tensors .* not in the file"):
        BertModel.from_pretrained(
            repository,
            config=BertConfig(
                **TINY_BERT, quantization_config={"quant_method": "bhk"}, transformers_weights="model.bhk"
            ),
        )


def test_shapes_and_missing_tensors_are_refused(
    tmp_path: Path, publish: Callable[..., Path], change_config: Callable[..., None]
) -> None:
    BertModel(BertConfig(**TINY_BERT)).save_pretrained(tmp_path / "dense")
    repository = publish(tmp_path / "dense", tmp_path / "repository")
    change_config(repository, intermediate_size=48)
    with pytest.raises(
        MismatchError, match=r"of another shape: .* is \[\d+.*\] in the file, \[\d+.*\] in the model"
    ) as caught:
        BertModel.from_pretrained(repository)
    assert len(caught.value.differing) == 6
    change_config(repository, intermediate_size=64, num_hidden_layers=3)
    with pytest.raises(MismatchError) as caught:
        BertModel.from_pretrained(repository, ignore_mismatched_sizes=True)
    assert len(caught.value.missing) == 16
    change_config(repository, num_hidden_layers=1)
    with pytest.raises(MismatchError) as caught:
        BertModel.from_pretrained(repository)
    assert len(caught.value.unexpected) == 16


def test_damaged_files_raise(repository: Path) -> None:
    path = repository / "model.bhk"
    with bhk.open(path) as file:
        stream = file.layer("vision_encoder.layers.0.attn.qkv.weight").streams[0]
    whole = bytearray(path.read_bytes())
    whole[stream.offset + 5] ^= 1
    path.write_bytes(whole)
    with pytest.raises(StreamHashError, match=r"vision_encoder\.layers\.0\.attn\.qkv\.weight"):
        SamModel.from_pretrained(repository)
    path.write_bytes(whole[:-1])
    with pytest.raises(FormatError):
        SamModel.from_pretrained(repository)
    path.unlink()
    with pytest.raises(OSError, match=r"model\.bhk"):
        SamModel.from_pretrained(repository)


@pytest.mark.parametrize("name", ["../model.bhk", "/model.bhk", "a/model.bhk", "..\\model.bhk"])
def test_weights_outside_the_folder_are_refused(
    repository: Path, change_config: Callable[..., None], name: str
) -> None:
    change_config(repository, transformers_weights=name)
    with pytest.raises(RepositoryError, match="is not a plain file name"):
        SamModel.from_pretrained(repository)


def test_half_a_configuration_is_refused(repository: Path, change_config: Callable[..., None]) -> None:
    change_config(repository, quantization_config=None)
    with pytest.raises(RepositoryError, match='lacks "quantization_config"'):
        SamModel.from_pretrained(repository)
    change_config(repository, quantization_config={"quant_method": "bhk"}, transformers_weights=None)
    models.small_hf_sam().save_pretrained(repository / "dense")
    (repository / "dense" / "model.safetensors").rename(repository / "model.safetensors")
    with pytest.raises(RepositoryError, match=r"the weights are in model\.safetensors, expected a \.bhk file"):
        SamModel.from_pretrained(repository)


def test_a_part_of_a_model_is_loaded_from_the_file_of_the_whole(repository: Path, tmp_path: Path) -> None:
    models.small_hf_sam().save_pretrained(repository / "dense")
    (repository / "dense" / "model.safetensors").rename(repository / "model.safetensors")  # older weights
    part = SamVisionModel.from_pretrained(repository)
    whole = SamModel.from_pretrained(repository).vision_encoder
    assert _hyperlinears(part)
    pixels = torch.randn(1, 3, models.SIZE, models.SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(part(pixels).last_hidden_state, whole(pixels).last_hidden_state)
    with pytest.raises(SaveError, match=r"SamVisionModel is only a part of the model in model\.bhk"):
        part.save_pretrained(tmp_path / "part")


def test_a_part_with_a_configuration_of_its_own_is_not_loaded_from_older_weights(repository: Path) -> None:
    models.small_hf_sam().save_pretrained(repository / "dense")
    (repository / "dense" / "model.safetensors").rename(repository / "model.safetensors")
    with pytest.raises(
        RepositoryError, match=r"holds a SamModel in 'model\.bhk', but another class or configuration is"
    ):
        SamVisionModel.from_pretrained(repository, config=models.small_hf_sam().config.vision_config)


def test_a_part_that_the_file_lacks_is_refused(published: Path) -> None:
    with pytest.raises(MismatchError, match=r"does not fit SamHQModel: \d+ tensors .* of the model not in the file"):
        SamHQModel.from_pretrained(published)


def test_the_parts_of_sam_3(tmp_path: Path, publish: Callable[..., Path]) -> None:
    model = models.small_hf_sam3_video()
    model.save_pretrained(tmp_path / "dense")
    repository = publish(tmp_path / "dense", tmp_path / "repository")
    save_file(bhk.load_state_dict(repository / "model.bhk"), tmp_path / "dense" / "model.safetensors", {"format": "pt"})
    for kind in (Sam3VideoModel, Sam3Model, Sam3TrackerVideoModel):
        loaded, info = kind.from_pretrained(repository, output_loading_info=True)
        assert not any(info.values())
        assert len(_hyperlinears(loaded)) > 40
        ours, theirs = loaded.dequantize().state_dict(), kind.from_pretrained(tmp_path / "dense").state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_without_bhk_transformers_stops_at_the_name_of_the_file(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for holder, name in (
        (modeling_utils, "_get_resolved_checkpoint_files"),
        (PreTrainedModel, "_load_pretrained_model"),
    ):
        monkeypatch.setattr(holder, name, getattr(holder, name).__wrapped__)
    monkeypatch.delitem(auto.AUTO_QUANTIZER_MAPPING, "bhk")
    monkeypatch.delitem(auto.AUTO_QUANTIZATION_CONFIG_MAPPING, "bhk")
    with pytest.raises(ValueError, match=r"transformers file in the config seems to be incorrect.*model\.bhk"):
        SamModel.from_pretrained(published)


@pytest.mark.full
def test_a_process_without_bhk_stops_too(published: Path) -> None:
    code = f"from transformers import SamModel; SamModel.from_pretrained({str(published)!r})"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ended.returncode == 1
    assert "ValueError" in ended.stderr
    assert "model.bhk" in ended.stderr.splitlines()[-1]


def test_importing_again_changes_nothing(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = SamModel.__mro__[1]._load_pretrained_model
    importlib.reload(bhk.transformers)
    monkeypatch.setattr(bhk, "transformers", bhk.transformers)  # put back at the end, as the modules are
    for name in [name for name in sys.modules if name.startswith("bhk.transformers")]:
        monkeypatch.delitem(sys.modules, name)
    importlib.import_module("bhk.transformers")
    assert SamModel.__mro__[1]._load_pretrained_model is before
    assert _hyperlinears(SamModel.from_pretrained(published))


def test_dense_checkpoints_load_as_before(published: Path) -> None:
    model = SamModel.from_pretrained(published.parent / "dense")
    assert not _hyperlinears(model)
    for name, tensor in models.small_hf_sam().state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_half_precision_leaves_layers_dense_that_are_kept_in_float32(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SamModel, "_keep_in_fp32_modules_strict", ["neck", "lin1"])
    model = SamModel.from_pretrained(published, dtype=torch.bfloat16)
    assert model.vision_encoder.layers[0].mlp.lin1.weight.dtype == torch.float32
    assert isinstance(model.vision_encoder.layers[0].mlp.lin2, HyperLinear)
    assert isinstance(SamModel.from_pretrained(published).vision_encoder.layers[0].mlp.lin1, HyperLinear)


def test_gradients_reach_inputs_and_biases(published: Path) -> None:
    model = SamModel.from_pretrained(published).train()
    picture = torch.randn(1, 3, models.SIZE, models.SIZE, requires_grad=True)
    model(pixel_values=picture, input_points=torch.tensor([[[[30.0, 40.0]]]])).pred_masks.sum().backward()
    assert picture.grad.abs().max() > 0
    assert model.vision_encoder.layers[0].attn.qkv.bias.grad.abs().max() > 0
    assert model.hf_quantizer.is_trainable


def test_layers_compile_without_breaks(published: Path) -> None:
    model = SamModel.from_pretrained(published)
    assert model.hf_quantizer.is_compileable
    block = model.vision_encoder.layers[0].mlp
    x = torch.randn(1, 4, 4, 64)
    with torch.no_grad():
        compiled = torch.compile(block, backend="eager", fullgraph=True)(x)
        torch.testing.assert_close(compiled, block(x))
