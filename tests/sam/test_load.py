from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub.constants
import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from container.memory import header_text, with_text
from tasks.checkpoints import draw, save
from torch import nn

import bhk
from bhk.base.files import ReadError
from bhk.base.packages import MissingPackageError
from bhk.container import reader
from bhk.container.header import ModelEntry, parse, to_json
from bhk.evaluation.frame import find_models
from bhk.hub import download
from bhk.hub.errors import HubError
from bhk.nn import HyperLinear
from bhk.nn.errors import LoadOptionError, MismatchError
from bhk.sam.attention.relative import RelativeAttention
from bhk.sam.build import UnknownModelError, build_model
from bhk.sam.checkpoints import read_checkpoint
from sam.models import small_hf_sam

if TYPE_CHECKING:
    from hub.fake_hub import FakeHub

pytest.importorskip("segment_anything")

_SMALL = ModelEntry(
    "sam",
    None,
    {
        "embed_dim": 64,
        "depth": 2,
        "num_heads": 2,
        "global_attn_indexes": [1],
        "image_size": 128,
        "window_size": 4,
        "prompt_embed_dim": 64,
        "decoder_mlp_dim": 96,
        "iou_head_hidden_dim": 32,
    },
)
_COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return draw({name: tensor.shape for name, tensor in build_model(_SMALL).state_dict().items()})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return bhk.convert(save(tmp_path / "sam.pth", _tensors()), threads=1).path


def _run(model: nn.Module) -> torch.Tensor:
    image = torch.linspace(0, 255, 3 * 128 * 128).view(3, 128, 128)
    prompt = {"point_coords": torch.tensor([[[50.0, 60.0]]]), "point_labels": torch.ones(1, 1)}
    (out,) = model([{"image": image, "original_size": (128, 128), **prompt}], multimask_output=True)
    logits: torch.Tensor = out["low_res_logits"]
    return logits


def _say(path: Path, entry: ModelEntry) -> None:
    """Write `entry` into the header of the file at `path`."""
    data = path.read_bytes()
    header = msgspec.structs.replace(parse(header_text(data)), model=entry)
    streams = data[64 + int.from_bytes(data[16:24], "little") :]
    path.write_bytes(with_text(data, to_json(header), streams))


@pytest.mark.parametrize("mode", ["hyper", "dense"])
def test_a_file_becomes_the_model_that_it_holds(path: Path, mode: str) -> None:
    model = bhk.load(path, mode=mode)
    expected = build_model(_SMALL)
    expected.load_state_dict(bhk.load_state_dict(path))
    expected.eval()
    assert type(model) is type(expected)
    assert not any(module.training for module in model.modules())
    assert any(isinstance(module, HyperLinear) for module in model.modules()) == (mode == "hyper")
    torch.testing.assert_close(_run(model), _run(expected), rtol=1e-3, atol=1e-4)


def test_options_reach_the_loader(path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    model = bhk.load(
        str(path), mode="hyper", compute="int8", dtype="bfloat16", threads=1, progress=lambda *step: seen.append(step)
    )
    assert {module.compute for module in model.modules() if isinstance(module, HyperLinear)} == {"int8"}
    assert model.mask_decoder.iou_token.weight.dtype == model.pixel_mean.dtype == torch.bfloat16
    assert seen[-1][0] == "Loading"
    assert seen[-1][1] == seen[-1][2] > 0
    for wrong in ({"device": "warp"}, {"attention": "fast"}):
        with pytest.raises(LoadOptionError):  # before the file is looked for
            bhk.load("none.bhk", **wrong)


def test_attention_is_fused_or_the_package_s(path: Path, tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "other.pth", _tensors())
    for source in (path, checkpoint):
        fused, package = bhk.load(source), bhk.load(source, attention="package")
        assert type(fused.image_encoder.blocks[0].attn) is RelativeAttention
        assert type(package.image_encoder.blocks[0].attn).__module__ == "segment_anything.modeling.image_encoder"
        torch.testing.assert_close(_run(fused), _run(package))


@pytest.mark.parametrize(("mode", "rounds"), [("auto", True), ("hyper", True), ("dense", False)])
def test_attention_may_round_where_products_do(path: Path, mode: str, rounds: bool) -> None:
    for compute in ("exact", "int8"):
        model = bhk.load(path, mode=mode, compute=compute)
        assert model.image_encoder.blocks[0].attn.compute == (compute if rounds else "exact")


@pytest.mark.parametrize("where", ["local", "Hub"])
@pytest.mark.parametrize(
    "read",
    [
        bhk.load,
        lambda path: bhk.load_into(build_model(_SMALL), path),
        bhk.load_state_dict,
        lambda path: find_models([path], None),
        lambda path: bhk.segment(path, np.zeros((20, 30, 3), np.uint8), points=[(5, 5)]),
    ],
    ids=["load", "load_into", "load_state_dict", "find_models", "segment"],
)
def test_a_file_is_found_opened_and_validated_once(
    path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, where: str, read: Callable[[Any], object]
) -> None:
    found, validated = list[object](), list[object]()
    hub.add("user/sam", {"model.bhk": path})
    with_bhk_file, validate = download.with_bhk_file, reader.validate
    monkeypatch.setattr(download, "with_bhk_file", lambda *of: found.append(of) or with_bhk_file(*of))
    monkeypatch.setattr(reader, "validate", lambda *of, **how: validated.append(of) or validate(*of, **how))
    read("hf://user/sam" if where == "Hub" else path)
    assert (len(found), len(validated)) == (1 if where == "Hub" else 0, 1)


@pytest.mark.parametrize("address", ["user/sam", "hf://user/sam", "hf://user/sam/model.bhk", "hf://user/sam/small"])
def test_a_repository_of_the_hub(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """It is read from the cache of the Hub's own library, without a network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    repository = tmp_path / "cache" / "models--user--sam"
    snapshot = repository / "snapshots" / _COMMIT
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(_COMMIT)
    (snapshot / "small").mkdir(parents=True)
    for name in ("model.bhk", "small/model.bhk"):
        (snapshot / name).write_bytes(path.read_bytes())
    assert type(bhk.load(address, mode="dense")).__name__ == "Sam"
    with pytest.raises(HubError, match="cannot reach the Hub for hf://user/other"):
        bhk.load("hf://user/other")


def test_a_checkpoint_in_a_folder_takes_precedence(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.bhk").write_bytes(path.read_bytes())
    assert any(isinstance(module, HyperLinear) for module in bhk.load(folder, mode="hyper").modules())
    save(folder / "sam.pth", {"model": _tensors()})
    assert not any(isinstance(module, HyperLinear) for module in bhk.load(folder, mode="hyper").modules())


def test_a_path_is_not_mistaken_for_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReadError, match=r"cannot read models/sam\.bhk"):
        bhk.load("models/sam.bhk")


def test_a_model_of_transformers_that_is_not_of_the_family(tmp_path: Path) -> None:
    safetensors.torch.save_file(draw({"a.weight": (48, 48)}), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    path = bhk.convert(tmp_path, tmp_path / "bert.bhk").path
    with pytest.raises(UnknownModelError, match=r"import bhk\.transformers.* from_pretrained"):
        bhk.load(path)


def test_a_file_that_does_not_name_its_model(tmp_path: Path) -> None:
    path = bhk.convert(save(tmp_path / "a.pth", draw({"a.weight": (48, 48)}))).path
    with pytest.raises(UnknownModelError, match=r"does not say which model .* bhk\.load_into"):
        bhk.load(path)


def test_an_unknown_family(path: Path) -> None:
    _say(path, ModelEntry("sam9", "sam9_vit_b"))
    with pytest.raises(UnknownModelError, match="family 'sam9'"):
        bhk.load(path)


def test_a_package_that_is_not_installed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    with pytest.raises(MissingPackageError, match="pip install segment-anything"):
        bhk.load(path)


def test_a_file_whose_tensors_contradict_its_model(path: Path) -> None:
    _say(path, ModelEntry("sam", None, {**_SMALL.arguments, "depth": 3}))
    with pytest.raises(
        UnknownModelError, match=r"says that it holds SAM .*'depth': 3.* but its tensors have other shapes"
    ):
        bhk.load(path)


def test_a_part_of_a_model(tmp_path: Path) -> None:
    decoder = {name: tensor for name, tensor in _tensors().items() if name.startswith("mask_decoder.")}
    path = bhk.convert(save(tmp_path / "decoder.pth", decoder)).path
    with pytest.raises(UnknownModelError, match="load_into"):
        bhk.load(path)


@pytest.mark.parametrize("kind", ["decoder", "LoRA"])
def test_a_part_and_a_model_with_more_go_into_a_whole_one_by_the_lines_of_the_message(
    path: Path, tmp_path: Path, kind: str
) -> None:
    tensors = draw({name: tensor.shape for name, tensor in _tensors().items()}, seed=1)
    lora = {"image_encoder.blocks.0.attn.qkv.lora_A.weight": torch.randn(4, 64)}
    decoder = {name: tensor for name, tensor in tensors.items() if name.startswith("mask_decoder.")}
    kept = decoder if kind == "decoder" else tensors | lora
    source = save(tmp_path / "tuned.pth", kept)
    (warning,) = bhk.convert(source).warnings
    for file in (source, source.with_suffix(".bhk")):
        with pytest.raises(UnknownModelError, match="with these lines: ") as raised:
            bhk.load(file)
        lines = str(raised.value).partition("with these lines: ")[2].partition(", which names")[0]
        assert lines in warning
    lines = lines.replace("WHOLE", str(path)).replace("THIS.bhk", str(tmp_path / "tuned.bhk"))
    names: dict[str, Any] = {"bhk": bhk}
    exec(lines.replace("print(", "report = (").replace("; ", "\n"), names)
    assert set(names["report"].unexpected) == (set(lora) if kind == "LoRA" else set())
    assert set(names["report"].missing) == set(_tensors()) - set(kept)
    loaded, whole = names["model"].state_dict(), bhk.load_state_dict(path)
    tuned = bhk.load_state_dict(tmp_path / "tuned.bhk")
    assert all(torch.equal(tensor, tuned.get(name, whole[name])) for name, tensor in loaded.items())


def test_a_checkpoint_loads_densely(tmp_path: Path) -> None:
    tensors = _tensors()
    model = bhk.load(
        save(tmp_path / "sam.pth", {"model": {f"module.{name}": value for name, value in tensors.items()}})
    )
    expected = build_model(_SMALL)
    expected.load_state_dict(tensors)
    assert not model.training
    torch.testing.assert_close(_run(model), _run(expected))
    half = bhk.load(tmp_path / "sam.pth", dtype=torch.float16)
    assert {value.dtype for value in half.state_dict().values()} == {torch.float16}


def test_what_is_assumed_about_a_checkpoint_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = save(tmp_path / "sam.pth", build_model(_SMALL).state_dict())

    def assuming(path: Path, **options: Any) -> tuple[Any, Any]:
        found, recognised = read_checkpoint(path, **options)
        return found, dataclasses.replace(recognised, note="taken for a SAM")

    monkeypatch.setattr("bhk.sam.load.read_checkpoint", assuming)
    with pytest.warns(UserWarning, match="taken for a SAM"):
        bhk.load(checkpoint)
    picture = np.zeros((128, 128, 3), np.uint8)
    assert bhk.segment(checkpoint, picture, points=[(9, 9)]).notes == ("taken for a SAM",)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="not those of a model of the family"):
        bhk.load(save(tmp_path / "a.pth", {"weight": torch.ones(3, 3)}))


def test_a_checkpoint_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    tensors = _tensors()
    del tensors["image_encoder.neck.1.bias"]
    with pytest.raises(
        MismatchError, match=r"1 tensor \(image_encoder\.neck\.1\.bias\) of the model not in the checkpoint"
    ):
        bhk.load(save(tmp_path / "a.pth", tensors))


def test_a_checkpoint_may_hold_a_shared_tensor_under_one_name(tmp_path: Path) -> None:
    model = small_hf_sam()
    model.save_pretrained(tmp_path)  # leaves the second name out
    loaded = bhk.load(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
