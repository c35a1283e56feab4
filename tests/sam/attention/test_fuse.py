from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bhk.sam
from bhk.nn import HyperLinear
from bhk.nn.errors import LoadOptionError
from bhk.sam.attention.biased import BiasedAttention
from bhk.sam.attention.fuse import check_attention
from bhk.sam.attention.hiera import HieraBlock
from bhk.sam.attention.plain import DecoderAttention, EdgeAttention, EncoderAttention
from bhk.sam.attention.relative import RelativeAttention, RelativeBlock
from bhk.sam.build import registered
from sam import models
from sam.attention.modules import draw, named, randomised
from tools import demo

pytest.importorskip("segment_anything")
_OURS = (RelativeAttention, RelativeBlock, BiasedAttention, HieraBlock, DecoderAttention, EncoderAttention)


def _mobile_sam() -> nn.Module:
    return randomised(registered(pytest.importorskip("segment_anything_hq"), "vit_t")())  # type: ignore[no-any-return]


def _image(model: Any) -> torch.Tensor:
    side = getattr(getattr(model, "image_encoder", None), "img_size", models.SIZE)
    return draw(1, 3, side, side)


def _encode(model: Any) -> torch.Tensor:
    if hasattr(model, "vision_encoder"):
        return model.get_image_embeddings(_image(model))[0]  # type: ignore[no-any-return]
    found = model.image_encoder(_image(model))
    if isinstance(found, dict):
        return found["vision_features"]  # type: ignore[no-any-return]
    return found[0] if isinstance(found, tuple) else found  # type: ignore[no-any-return]


_MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "sam": (models.small_sam, 11),
    "sam_hq": (models.small_sam_hq, 11),
    "mobile_sam": (_mobile_sam, 17),
    "hf_sam": (models.small_hf_sam, 2),
    "hf_sam_hq": (models.small_hf_sam_hq, 2),
    "sam2": (models.small_sam2, 5),
    "hf_sam2": (models.small_hf_sam2, 0),
}


@pytest.mark.parametrize("name", list(_MODELS))
@torch.no_grad()
def test_models_compute_the_same_and_keep_their_tensors(name: str) -> None:
    pytest.importorskip({"sam2": "sam2", "hf": "transformers"}.get(name.split("_")[0], "segment_anything_hq"))
    build, count = _MODELS[name]
    theirs = build()
    ours = copy.deepcopy(theirs)
    before = {name: id(tensor) for name, tensor in [*ours.named_parameters(), *ours.named_buffers()]}
    assert bhk.sam.fuse_attention(ours) == count
    assert sum(isinstance(module, _OURS) for module in ours.modules()) == count
    assert bhk.sam.fuse_attention(ours) == 0
    after = {name: id(tensor) for name, tensor in [*ours.named_parameters(), *ours.named_buffers()]}
    assert list(after.items()) == list(before.items())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    if count:
        torch.testing.assert_close(_encode(ours), _encode(theirs), rtol=1e-4, atol=1e-4)


def test_known_are_modules_by_their_full_name() -> None:
    from segment_anything.modeling import image_encoder, transformer

    def relative(package: str) -> nn.Module:
        module = image_encoder.Attention(16, 2, use_rel_pos=True, input_size=(3, 3))
        return named(module, f"{package}.modeling.image_encoder.Attention")  # type: ignore[no-any-return]

    def decoder(name: str) -> nn.Module:
        return named(transformer.Attention(16, 2), name)  # type: ignore[no-any-return]

    kinds = {
        "mobile_sam.modeling.transformer.Attention": DecoderAttention,
        "tinysam.modeling.transformer.Attention": DecoderAttention,
        "mobilesamv2.modeling.transformer.Attention": DecoderAttention,
        "edge_sam.modeling.transformer.Attention": EdgeAttention,
        "efficient_sam.two_way_transformer.AttentionForTwoWayAttentionBlock": DecoderAttention,
        "other.modeling.transformer.Attention": nn.Module,
        "segment_anything.modeling.transformer.Attention2": nn.Module,
    }
    for name, kind in kinds.items():
        parent = nn.ModuleList([decoder(name)])
        assert bhk.sam.fuse_attention(parent) == (kind is not nn.Module)
        assert isinstance(parent[0], kind)
    for package in ("mobile_sam", "tinysam", "edge_sam", "mobilesamv2"):
        parent = nn.ModuleList([relative(package)])
        assert bhk.sam.fuse_attention(parent) == 1


def test_transformers_eager_attention_returns_weights_and_stays() -> None:
    sam = pytest.importorskip("transformers.models.sam.modeling_sam")
    config = pytest.importorskip("transformers").SamVisionConfig(hidden_size=48, num_attention_heads=3)
    assert bhk.sam.fuse_attention(nn.ModuleList([sam.SamVisionAttention(config, 4)])) == 0


def _hooked(module: nn.Module) -> None:
    module.register_forward_hook(lambda *given: None)


def _with_a_forward_of_its_own(module: Any) -> None:
    module.forward = lambda x: x


def _with_another_part(module: Any) -> None:
    module.adapter = nn.Linear(2, 2)


def _without_tables(module: Any) -> None:
    del module.rel_pos_h, module.rel_pos_w


@pytest.mark.parametrize("alter", [_hooked, _with_a_forward_of_its_own, _with_another_part, _without_tables])
def test_altered_modules_stay_as_they_are(alter: Callable[[Any], None]) -> None:
    model: Any = models.small_sam()
    block = model.image_encoder.blocks[0]
    alter(block.attn)
    assert bhk.sam.fuse_attention(model) == 9
    assert model.image_encoder.blocks[0] is block
    assert not isinstance(block.attn, _OURS)


@pytest.mark.parametrize("part", ["attn.qkv", "mlp", "mlp.lin1", "norm2"])
@torch.no_grad()
def test_hooks_on_parts_of_a_block_see_what_they_saw(part: str) -> None:
    model: Any = models.small_sam()
    block = model.image_encoder.blocks[0]
    seen: list[tuple[int, ...]] = []
    block.get_submodule(part).register_forward_hook(lambda _, given, out: seen.append((*given[0].shape, *out.shape)))
    x = draw(1, 9, 9, 64)
    model.image_encoder.blocks[0](x)
    expected = seen.copy()
    assert bhk.sam.fuse_attention(model) == 10
    assert model.image_encoder.blocks[0] is block
    block(x)
    assert seen == expected * 2


def test_a_block_with_another_perceptron_stays() -> None:
    model: Any = models.small_sam()
    block = model.image_encoder.blocks[0]
    block.mlp = nn.Sequential(block.mlp)
    assert bhk.sam.fuse_attention(model) == 10
    assert model.image_encoder.blocks[0] is block


def test_a_shared_module_stays_shared() -> None:
    model: Any = models.small_sam()
    model.image_encoder.blocks[0].attn = model.image_encoder.blocks[1].attn
    assert bhk.sam.fuse_attention(model) == 10
    assert model.image_encoder.blocks[0].attn is model.image_encoder.blocks[1].attn


def test_the_mode_of_each_module_is_kept() -> None:
    model: Any = models.small_sam().train()
    model.mask_decoder.eval()
    before = [module.training for module in model.modules()]
    bhk.sam.fuse_attention(model)
    assert [module.training for module in model.modules()] == before


@torch.no_grad()
def test_copies_casts_and_pickles(tmp_path: Path) -> None:
    model: Any = models.small_sam().image_encoder
    bhk.sam.fuse_attention(model)
    expected = model(draw(1, 3, 128, 128))
    assert torch.equal(copy.deepcopy(model)(draw(1, 3, 128, 128)), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(draw(1, 3, 128, 128)), expected)
    double = copy.deepcopy(model).double()(draw(1, 3, 128, 128, dtype=torch.float64))
    torch.testing.assert_close(double.float(), expected, rtol=1e-4, atol=1e-4)


def test_a_pickle_needs_no_package(tmp_path: Path) -> None:
    model: Any = models.small_sam()
    bhk.sam.fuse_attention(model)
    torch.save(model.image_encoder.blocks[0].attn, tmp_path / "attention.pt")
    code = (
        "import sys; sys.modules['segment_anything'] = None\n"
        f"import torch; print(type(torch.load({str(tmp_path / 'attention.pt')!r}, weights_only=False)).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "RelativeAttention"


@torch.no_grad()
def test_a_block_compiles_to_one_graph() -> None:
    model: Any = models.small_sam()
    bhk.sam.fuse_attention(model)
    x = draw(1, 8, 8, 64)
    for block in model.image_encoder.blocks:
        compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), block(x))


@pytest.mark.parametrize("first", ["fuse", "load"])
@torch.no_grad()
def test_before_and_after_loading(first: str, tmp_path: Path) -> None:
    expected: Any = models.small_sam(width=96)
    torch.save(expected.state_dict(), tmp_path / "sam.pth")
    bhk.convert(tmp_path / "sam.pth", quality="fine")
    model: Any = models.small_sam(width=96)
    steps = [bhk.sam.fuse_attention, lambda model: bhk.load_into(model, tmp_path / "sam.bhk", mode="hyper")]
    for step in steps if first == "fuse" else steps[::-1]:
        step(model)
    assert isinstance(model.image_encoder.blocks[0].attn, RelativeAttention)
    assert isinstance(model.image_encoder.blocks[0].attn.qkv, HyperLinear)
    loaded: Any = models.small_sam(width=96)
    bhk.load_into(loaded, tmp_path / "sam.bhk", mode="dense")
    torch.testing.assert_close(_encode(model), _encode(loaded), rtol=1e-3, atol=1e-3)


def test_an_impossible_option() -> None:
    with pytest.raises(LoadOptionError, match="attention 'fast' is unknown; choose 'fused' or 'package'"):
        check_attention("fast")


@torch.no_grad()
def test_a_trained_model_gives_the_masks_of_its_package() -> None:
    fused, package = (bhk.load(demo.CHECKPOINT, attention=attention) for attention in ("fused", "package"))
    assert [sum(isinstance(module, _OURS) for module in model.modules()) for model in (fused, package)] == [19, 0]
    image = _image(fused)
    embedding, expected = fused.image_encoder(image), package.image_encoder(image)
    assert (embedding - expected).norm() <= 1e-5 * expected.norm()
    picture = demo.PICTURES / "kites.jpg"
    for points in ([(100, 100)], [(200, 150)], [(30, 250), (40, 260)]):
        found, wanted = (bhk.segment(model, picture, points=points, multimask=True) for model in (fused, package))
        both, either = (found.masks & wanted.masks).sum((1, 2)), (found.masks | wanted.masks).sum((1, 2))
        assert (both >= 0.999 * either).all()


def test_a_scripted_part_stays() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(2, 2)))
    model = nn.ModuleDict({"resize": scripted})
    assert bhk.sam.fuse_attention(model) == 0
    assert model["resize"] is scripted
