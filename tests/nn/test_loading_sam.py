"""Loading into the architectures of the family, each at a reduced size: outputs as with the decoded weights."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import bhk
from bhk.nn import weights_on_meta


def _sam() -> nn.Module:
    parts = pytest.importorskip("segment_anything.modeling")
    encoder = parts.ImageEncoderViT(
        img_size=256,
        embed_dim=96,
        depth=2,
        num_heads=3,
        out_chans=64,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=7,
        global_attn_indexes=(1,),
    )
    prompts = parts.PromptEncoder(64, (16, 16), (256, 256), 16)
    transformer = parts.TwoWayTransformer(2, 64, 4, 128)
    decoder = parts.MaskDecoder(transformer_dim=64, transformer=transformer)
    return parts.Sam(encoder, prompts, decoder)


def _run_sam(model: nn.Module) -> list[torch.Tensor]:
    image = torch.linspace(0, 255, 3 * 256 * 200).view(3, 256, 200)
    prompt = {"point_coords": torch.tensor([[[100.0, 90.0]]]), "point_labels": torch.ones(1, 1)}
    (out,) = model([{"image": image, "original_size": (256, 200), **prompt}], multimask_output=True)
    return [out["low_res_logits"], out["iou_predictions"]]


def _tiny_vit() -> nn.Module:
    module = pytest.importorskip("segment_anything_hq.modeling.tiny_vit_sam")
    return module.TinyViT(img_size=128, embed_dims=[32, 64, 96, 320], depths=[1, 1, 2, 1], num_heads=[1, 2, 3, 4])


def _run_tiny_vit(model: nn.Module) -> list[torch.Tensor]:
    x = model.patch_embed(torch.linspace(-1, 1, 3 * 128 * 128).view(1, 3, 128, 128))
    x = model.layers[0](x)
    for layer in model.layers[1:]:
        x = layer(x)
    return [x]


def _sam2() -> nn.Module:
    builder = pytest.importorskip("sam2.build_sam")
    small = {
        "image_size": 128,
        "image_encoder.trunk.embed_dim": 32,
        "image_encoder.trunk.stages": "[1,1,2,1]",
        "image_encoder.trunk.global_att_blocks": "[3]",
        "image_encoder.neck.backbone_channel_list": "[256,128,64,32]",
        "memory_attention.num_layers": 1,
        "memory_attention.layer.dim_feedforward": 128,
    }
    overrides = [f"++model.{key}={value}" for key, value in small.items()]
    return builder.build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu", hydra_overrides_extra=overrides)


def _run_sam2(model: nn.Module) -> list[torch.Tensor]:
    features = model.forward_image(torch.linspace(-1, 1, 3 * 128 * 128).view(1, 3, 128, 128))
    x = features["backbone_fpn"][-1].flatten(2).permute(2, 0, 1)
    memory = model.memory_attention(curr=[x], memory=x[..., :64], curr_pos=[x], memory_pos=x[..., :64])
    return [*features["backbone_fpn"], *features["vision_pos_enc"], memory]


def _transformers() -> nn.Module:
    package = pytest.importorskip("transformers")
    image = {"image_size": 128, "patch_size": 16}
    config = package.SamConfig(
        vision_config={
            **image,
            "hidden_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "output_channels": 64,
            "num_pos_feats": 32,
            "mlp_dim": 192,
            "global_attn_indexes": [1],
        },
        prompt_encoder_config={**image, "hidden_size": 64},
        mask_decoder_config={"hidden_size": 64, "mlp_dim": 128, "num_attention_heads": 4, "iou_head_hidden_dim": 64},
    )
    model = package.SamModel(config)
    model.prompt_encoder.shared_embedding = model.shared_image_embedding
    return model


def _run_transformers(model: nn.Module) -> list[torch.Tensor]:
    pixels = torch.linspace(-1, 1, 3 * 128 * 128).view(1, 3, 128, 128)
    out = model(pixel_values=pixels, input_points=torch.tensor([[[[40.0, 50.0]]]]))
    return [out.pred_masks, out.iou_scores]


MODELS = [(_sam, _run_sam), (_tiny_vit, _run_tiny_vit), (_sam2, _run_sam2), (_transformers, _run_transformers)]


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: model[0].__name__.strip("_"))
def case(request, tmp_path_factory: pytest.TempPathFactory):
    """A builder, the .bhk file of its random weights, and a function from the model to its outputs."""
    build, run = request.param
    generator = torch.Generator().manual_seed(0)
    model = build()
    state = {
        name: tensor + torch.randn(tensor.shape, generator=generator) * 0.02 if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    file = tmp_path_factory.mktemp("model") / "model.pth"
    torch.save(state, file)
    return build, bhk.convert(file, threads=1).path, torch.no_grad()(run)


@pytest.mark.parametrize("mode", ["dense", "hyper"])
@pytest.mark.parametrize("build_under", [weights_on_meta, torch.no_grad])
def test_outputs_equal_those_of_the_decoded_weights(case, mode: str, build_under) -> None:
    build, path, run = case
    expected = build()
    expected.load_state_dict(bhk.load_state_dict(path))
    expected.eval()
    with build_under():
        model = build()
    report = bhk.load_into(model, path, mode=mode)
    assert (report.replaced > 5) == (mode == "hyper")
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    for ours, theirs in zip(run(model), run(expected), strict=True):
        if mode == "dense":
            assert torch.equal(ours, theirs)
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
