"""Adapters of PEFT on layers that hold codes, as its users write them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bhk
from bhk.nn import HyperLinear, to_dense

peft = pytest.importorskip("peft")

_X = torch.randn(5, 48, generator=torch.Generator().manual_seed(0))


class _Model(nn.Module):
    """A model with two layers on codes, a dense layer, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q_proj = HyperLinear.from_linear(nn.Linear(48, 48))
        self.v_proj = HyperLinear.from_linear(nn.Linear(48, 48, bias=False))
        self.up = nn.Linear(48, 32)
        self.head = HyperLinear.from_linear(nn.Linear(32, 48))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.up(self.q_proj(x) * self.v_proj(x))))


def _adapted(kind: str = "lora", targets: Any = "all-linear", **options: Any) -> Any:
    configs = {"lora": peft.LoraConfig, "loha": peft.LoHaConfig, "ia3": peft.IA3Config, "oft": peft.OFTConfig}
    torch.manual_seed(1)
    model = peft.get_peft_model(_Model(), configs[kind](target_modules=targets, **options))
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def test_layers_on_codes_are_linear_layers_to_peft() -> None:
    model = _adapted()
    names = [name for name, _ in model.named_parameters() if ".lora_A." in name]
    assert len(names) == 4
    by_name = _adapted(targets=["q_proj", "head"])
    assert len([name for name, _ in by_name.named_parameters() if ".lora_A." in name]) == 2
    assert isinstance(by_name.base_model.model.q_proj.base_layer, HyperLinear)


def test_training_moves_adapters_and_leaves_codes() -> None:
    model = _adapted().train()
    codes = {name: tensor.clone() for name, tensor in model.named_buffers()}
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = (model(_X) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(codes[name], tensor) for name, tensor in model.named_buffers())


def test_adapters_are_saved_without_the_model_and_loaded_again(tmp_path: Path) -> None:
    model = _adapted()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 20_000
    again = peft.PeftModel.from_pretrained(_Model(), tmp_path).eval()
    assert torch.equal(again(_X), model(_X))
    assert not torch.equal(again(_X), _Model()(_X))


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("lora", {}), ("lora", {"use_dora": True}), ("loha", {}), ("ia3", {"feedforward_modules": ["head"]})],
)
def test_merged_adapters_are_in_the_weights(kind: str, options: dict[str, Any], safe: bool) -> None:
    model = _adapted(kind, ["q_proj", "v_proj", "up", "head"], **options)
    expected, base = model(_X), _Model()(_X)
    merged = copy.deepcopy(model).merge_and_unload(safe_merge=safe)
    torch.testing.assert_close(merged(_X), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, base, atol=1e-2)
    assert {type(layer) for layer in (merged.q_proj, merged.v_proj, merged.head)} == {nn.Linear}


def test_adapters_can_be_merged_and_taken_out_again() -> None:
    model = _adapted(targets=["q_proj"])
    expected, base = model(_X), _Model()(_X)
    model.merge_adapter()
    torch.testing.assert_close(model(_X), expected, rtol=1e-4, atol=1e-4)
    model.unmerge_adapter()
    torch.testing.assert_close(model(_X), expected, rtol=1e-4, atol=1e-4)
    with model.disable_adapter():
        torch.testing.assert_close(model(_X), base, rtol=1e-4, atol=1e-4)
    assert isinstance(model.unload().v_proj, HyperLinear)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_adapters_that_start_as_a_part_of_the_weight_leave_the_model_as_it_was(init: str) -> None:
    model = peft.get_peft_model(_Model(), peft.LoraConfig(target_modules=["q_proj", "head"], init_lora_weights=init))
    torch.testing.assert_close(model.eval()(_X), _Model()(_X), rtol=1e-3, atol=1e-3)


def test_a_merged_model_is_coded_anew(tmp_path: Path) -> None:
    model = _adapted(targets=["q_proj", "v_proj"])
    expected = model(_X).detach()
    merged = model.merge_and_unload()
    with pytest.raises(bhk.BhkError, match=r"'head' is a layer on codes.*call bhk\.nn\.to_dense\(model\) before"):
        bhk.convert(merged, tmp_path / "merged.bhk")
    to_dense(merged)
    bhk.convert(merged, tmp_path / "merged.bhk", "fine")
    again = _Model()
    to_dense(again)
    bhk.load_into(again, tmp_path / "merged.bhk")
    assert isinstance(again.q_proj, HyperLinear)
    assert (again(_X) - expected).norm() < 0.15 * expected.norm()


def test_a_trainer_trains_adapters_and_saves_them(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")

    class WithLoss(_Model):
        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            y = super().forward(x)
            return {"loss": (y - labels).square().mean(), "logits": y}

    torch.manual_seed(1)
    model = peft.get_peft_model(WithLoss(), peft.LoraConfig(target_modules="all-linear"))
    data = [{"x": row, "labels": torch.ones(48)} for row in _X]
    options = transformers.TrainingArguments(
        tmp_path, max_steps=4, learning_rate=1e-2, report_to=[], use_cpu=True, save_steps=2, disable_tqdm=True
    )
    trainer = transformers.Trainer(model, options, train_dataset=data)
    found = trainer.train()
    assert found.training_loss > 0
    assert (tmp_path / "checkpoint-4" / "adapter_model.safetensors").is_file()
    trainer.train(resume_from_checkpoint=True)
    again = peft.PeftModel.from_pretrained(WithLoss(), tmp_path / "checkpoint-4").eval()
    ones = torch.ones(5, 48)
    torch.testing.assert_close(again(_X, ones)["logits"], model.eval()(_X, ones)["logits"])
