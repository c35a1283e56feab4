"""Against the fake Hub, by way of `bhk push`."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import transformers.utils.hub
from hub.fake_hub import FakeHub
from sam.models import small_hf_sam
from transformers import PreTrainedModel, SamModel

import bhk
import bhk.transformers
from bhk.nn import HyperLinear
from bhk.publishing.push import push


@pytest.fixture(autouse=True)
def _fresh_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make transformers use the Hub of this test; it keeps its client, which keeps the address."""
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None, raising=False)  # older versions have none


def _same(model: PreTrainedModel, other: PreTrainedModel) -> bool:
    pairs = zip(model.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == twin and torch.equal(a, b) for (name, a), (twin, b) in pairs)


def test_a_checkpoint_on_the_hub_is_converted_pushed_and_loaded(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_hf_sam().save_pretrained(tmp_path / "dense")
    hub.add("user/sam", {path.name: path for path in (tmp_path / "dense").iterdir()})
    bhk.convert("user/sam", tmp_path / "sam.bhk")
    push(tmp_path / "sam.bhk", "user/sam-bhk", private=True)
    assert {"config.json", "model.bhk", "README.md"} <= set(hub.files("user/sam-bhk"))
    model = SamModel.from_pretrained("user/sam-bhk")
    assert any(isinstance(module, HyperLinear) for module in model.modules())
    with bhk.open(tmp_path / "sam.bhk") as file:
        assert torch.equal(model.get_parameter("vision_encoder.pos_embed"), file.tensor("vision_encoder.pos_embed"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    requests = len(hub.requests)
    assert _same(SamModel.from_pretrained("user/sam-bhk"), model)
    assert _same(SamModel.from_pretrained("user/sam-bhk", local_files_only=True), model)
    assert len(hub.requests) == requests


def test_revisions_folders_and_caches_are_as_asked_for(hub: FakeHub, published: Path, tmp_path: Path) -> None:
    files = {path.name: path for path in published.iterdir()}
    commit = hub.add("user/sam", {f"small/{name}": path for name, path in files.items()})
    hub.add("user/sam", {"small/model.bhk": b"of another day"})
    cache = tmp_path / "cache"
    model = SamModel.from_pretrained("user/sam", revision=commit, subfolder="small", cache_dir=cache)
    assert _same(model, SamModel.from_pretrained(published))
    assert list(cache.rglob("model.bhk"))
    hub.add("user/without", {"config.json": files["config.json"]})
    with pytest.raises(OSError, match=r"model\.bhk"):
        SamModel.from_pretrained("user/without")


def test_models_push_themselves(hub: FakeHub, published: Path) -> None:
    model = SamModel.from_pretrained(published)
    model.push_to_hub("user/again")
    assert {"config.json", "model.bhk"} <= set(hub.files("user/again"))
    assert not any(name.endswith(".safetensors") for name in hub.files("user/again"))
    assert _same(SamModel.from_pretrained("user/again"), model)
