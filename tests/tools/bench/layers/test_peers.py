from __future__ import annotations

import copy
import sys

import pytest
import torch
from torch import nn

from tools.bench.frame.memory import held_bytes
from tools.bench.layers import peers as layer_peers
from tools.bench.layers.peers import GROUP, MAKERS, peers, round_to_int4

PACKAGES = ("gemlite", "torchao", "bitsandbytes")
NEEDING_PACKAGES = [name for name in MAKERS if name != "torch.compile"]


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(128, 32).requires_grad_(False)


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, linear: nn.Linear) -> None:
    for package in PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)
    found = peers(linear, torch.randn(3, 128), NEEDING_PACKAGES)
    assert not found.ready
    assert set(found.left_out) == set(NEEDING_PACKAGES)
    for name, reason in found.left_out.items():
        assert name.partition(" ")[0].lower() in reason
        assert "\n" not in reason


def test_wrong_products_are_left_out(monkeypatch: pytest.MonkeyPatch, linear: nn.Linear) -> None:
    def doubled(layer: nn.Linear) -> nn.Linear:
        layer.weight *= 2
        return layer

    def silent(_: nn.Linear) -> nn.Linear:
        raise NotImplementedError

    monkeypatch.setattr(layer_peers, "MAKERS", {"same": lambda layer: layer, "twice": doubled, "none": silent})
    before = copy.deepcopy(linear.weight)
    found = peers(linear, torch.randn(3, 128), ("same", "twice", "none"))
    assert list(found.ready) == ["same"]
    assert "off by" in found.left_out["twice"]
    assert found.left_out["none"] == "NotImplementedError"
    assert torch.equal(linear.weight, before)
    assert held_bytes(found.ready["same"]) == 4 * (128 + 1) * 32


def test_four_bits(linear: nn.Linear) -> None:
    codes, scales, zeros = round_to_int4(linear.weight)
    groups = codes.float().view(32, -1, GROUP)
    weight = (groups - zeros[..., None]) * scales[..., None]
    assert ((weight.view_as(linear.weight) - linear.weight).abs() <= scales.max() * 0.501).all()
    assert (int(codes.min()), int(codes.max())) == (0, 15)
    with pytest.raises(ValueError, match="96 inputs do not split into groups of 64"):
        round_to_int4(torch.zeros(2, 96))
