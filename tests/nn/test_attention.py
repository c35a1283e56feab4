from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bhk
from bhk.nn import HyperLinear, HyperLinearError, HyperMultiheadAttention, to_dense

Pair = Callable[..., tuple[nn.MultiheadAttention, nn.MultiheadAttention]]
WIDTH, HEADS = 48, 4


class Weightless(nn.MultiheadAttention):
    """Never returns weights, as SAM 3 has it."""

    def forward(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        return super().forward(*args, **{**options, "need_weights": False})


@pytest.fixture
def pair(write, randomise) -> Pair:
    """Makes attention on codes, and the same with the decoded weights."""

    def pair(kind: type[nn.MultiheadAttention] = nn.MultiheadAttention, **options: Any) -> Any:
        def build() -> nn.ModuleDict:
            return nn.ModuleDict({"attention": kind(WIDTH, HEADS, **options)})

        path = write(randomise(build(), 0.3))
        held, dense = build(), build()
        report = bhk.load_into(held, path)
        bhk.load_into(dense, path, mode="dense")
        assert report.replaced == (4 if "kdim" in options else 2)
        assert isinstance(held["attention"], HyperMultiheadAttention)
        assert isinstance(held["attention"], kind)
        assert not any(child.training for child in held.modules())
        return held["attention"], dense["attention"]

    return pair


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _inputs(queries: int, keys: int, layer: nn.MultiheadAttention, batch: int | None = 3) -> tuple[Tensor, ...]:
    lengths, widths = (queries, keys, keys), (layer.embed_dim, layer.kdim, layer.vdim)
    if batch is None:
        return tuple(_random(length, width) for length, width in zip(lengths, widths, strict=True))
    sizes = [(batch, length) if layer.batch_first else (length, batch) for length in lengths]
    return tuple(_random(*size, width) for size, width in zip(sizes, widths, strict=True))


def _check(held: nn.Module, dense: nn.Module, *inputs: Tensor, **options: Any) -> None:
    with torch.no_grad():
        (found, weights), (expected, expected_weights) = held(*inputs, **options), dense(*inputs, **options)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (weights is None) == (expected_weights is None)
    if weights is not None:
        torch.testing.assert_close(weights, expected_weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_first": True},
        {"bias": False},
        {"kdim": 24, "vdim": 36},
        {"add_bias_kv": True},
        {"add_zero_attn": True, "add_bias_kv": True, "batch_first": True},
    ],
    ids=lambda options: ",".join(options) or "plain",
)
def test_it_computes_like_attention_with_the_same_weights(
    pair: Pair, options: dict[str, Any], need_weights: bool
) -> None:
    held, dense = pair(**options)
    blocked = _random(5, 7) > 0.5
    blocked[:, 0] = False
    padding = torch.arange(7)[None] > torch.tensor([[6], [4], [2]])
    for masks in (
        {},
        {"attn_mask": blocked},
        {"attn_mask": _random(5, 7)},
        {"attn_mask": _random(3 * HEADS, 5, 7), "average_attn_weights": False},
        {"key_padding_mask": padding},
        {"attn_mask": blocked & padding.any(), "key_padding_mask": padding},
    ):
        _check(held, dense, *_inputs(5, 7, held), **masks, need_weights=need_weights)
    _check(held, dense, *_inputs(5, 7, held, None), key_padding_mask=padding[2], need_weights=need_weights)


@pytest.mark.parametrize("need_weights", [False, True])
def test_self_attention_with_a_causal_mask(pair: Pair, need_weights: bool) -> None:
    held, dense = pair(batch_first=True)
    x, mask = _random(2, 6, WIDTH), nn.Transformer.generate_square_subsequent_mask(6)
    _check(held, dense, x, x, x, attn_mask=mask, is_causal=True, need_weights=need_weights)
    with pytest.raises(RuntimeError, match="attn_mask"):
        held(x, x, x, is_causal=True)


def test_a_subclass_keeps_its_own_forward(pair: Pair) -> None:
    held, dense = pair(Weightless)
    assert held(*_inputs(5, 7, held))[1] is None
    _check(held, dense, *_inputs(5, 7, held))


@pytest.mark.parametrize("options", [{}, {"kdim": 24, "vdim": 36}], ids=["packed", "separate"])
def test_code_that_reads_the_weights_gets_them_decoded(pair: Pair, options: dict[str, Any]) -> None:
    held, dense = pair(**options)
    for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias"):
        ours, theirs = getattr(held, name), getattr(dense, name)
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)
    assert not any(parameter.ndim == 2 for parameter in held.parameters())


@pytest.mark.parametrize("kind", [nn.MultiheadAttention, Weightless])
def test_states_copies_and_pickles_are_equal(pair: Pair, kind: type[nn.MultiheadAttention]) -> None:
    held, _ = pair(kind, add_bias_kv=True)
    fresh = copy.deepcopy(held)
    for tensor in (*fresh.parameters(), *fresh.buffers()):
        tensor.detach().zero_()
    fresh.load_state_dict(held.state_dict())
    stored = io.BytesIO()
    torch.save(held, stored)
    stored.seek(0)
    copies = fresh, copy.deepcopy(held), pickle.loads(pickle.dumps(held)), torch.load(stored, weights_only=False)
    for other in copies:
        assert isinstance(other, kind)
        _check(other, held, *_inputs(5, 7, held))
    assert {name.partition(".")[2] for name in held.state_dict() if name.startswith("q_proj")} >= {"codes", "bias"}


@pytest.mark.parametrize("key_padding", [False, True])
def test_the_layers_of_torch_that_read_its_weights(write, randomise, key_padding: bool) -> None:
    def build() -> nn.Module:
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, 64, 0.0, batch_first=True), 2)

    path = write(randomise(build(), 0.3))
    held, dense = build(), build()
    bhk.load_into(held, path)
    bhk.load_into(dense, path, mode="dense")
    x = _random(2, 6, WIDTH)
    padding = torch.arange(6)[None] > torch.tensor([[5], [3]])
    options = {"src_key_padding_mask": padding} if key_padding else {}
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            # torch's fast path, which layers on codes do not take, sets padding to zero.
            found, expected = (model(x, **options)[~padding] for model in (held, dense))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_writing_to_the_joined_tensors_is_refused(pair: Pair) -> None:
    held, _ = pair()
    for name in ("in_proj_weight", "in_proj_bias"):
        with pytest.raises(HyperLinearError, match="was joined from q_proj, k_proj and v_proj"), torch.no_grad():
            getattr(held, name).data.add_(1)
    x = _inputs(5, 7, held)
    before = held(*x)[0].detach()
    held.v_proj.weight.data += 1
    assert type(held.v_proj) is nn.Linear
    assert not torch.allclose(held(*x)[0], before)


@pytest.mark.parametrize("kind", [nn.MultiheadAttention, Weightless])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 24, "vdim": 36}, {"add_bias_kv": True}])
def test_attention_becomes_that_of_the_model_again(pair: Pair, kind: type, options: dict[str, Any]) -> None:
    held, dense = pair(kind, **options)
    assert to_dense(held) == 4
    assert type(held) is kind
    ours, theirs = held.state_dict(), dense.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    _check(held, dense, *_inputs(5, 7, held))


def test_projections_of_their_own_dtypes_and_gradients(pair: Pair) -> None:
    held, dense = pair()
    for name, parameter in held.named_parameters():
        assert parameter.requires_grad, name
    x = _random(5, 2, WIDTH).requires_grad_()
    held(x, x, x)[0].sum().backward()
    ours, x.grad = x.grad, None
    dense(x, x, x)[0].sum().backward()
    torch.testing.assert_close(ours, x.grad, rtol=1e-4, atol=1e-5)
    half = held.to(torch.bfloat16)
    assert half(*(tensor.bfloat16() for tensor in _inputs(5, 7, held)))[0].dtype == torch.bfloat16


def test_small_projections_stay_dense_beside_large_ones(write, randomise, monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> nn.ModuleDict:
        return nn.ModuleDict({"attention": nn.MultiheadAttention(WIDTH, HEADS)})

    path = write(randomise(build(), 0.3))
    monkeypatch.setattr("bhk.nn.plan.SMALL_ON_CPU", WIDTH**2)
    held, dense = build(), build()
    assert bhk.load_into(held, path, mode="auto").replaced == 1
    bhk.load_into(dense, path, mode="dense")
    assert isinstance(held["attention"].q_proj, HyperLinear)
    assert isinstance(held["attention"].out_proj, nn.Linear)
    _check(held["attention"], dense["attention"], *_inputs(5, 7, held["attention"]))
