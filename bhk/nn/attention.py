"""`torch.nn.MultiheadAttention` whose projections may be held as codes."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bhk.nn.decoded_weight import decoded_weight
from bhk.nn.errors import HyperLinearError
from bhk.nn.model_tensors import attributes_of

PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class HyperMultiheadAttention(nn.MultiheadAttention):
    """`torch.nn.MultiheadAttention` with a layer of its own for each projection, so that a `HyperLinear` can be one.

    `bhk.load` makes it from a model's attention, of whose class it is a subclass. Code that reads `in_proj_weight` gets the
    decoded weight, decoded at each access, and may not write to it.

    >>> attention = torch.nn.MultiheadAttention(768, 12)
    >>> projections = {name: bhk.nn.HyperLinear(768, 768) for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
    >>> attention = bhk.nn.HyperMultiheadAttention.of(attention, **projections)
    >>> x = torch.ones(5, 1, 768)
    >>> attention(x, x, x, need_weights=False)[0].shape
    torch.Size([5, 1, 768])

    Attributes:
        q_proj, k_proj, v_proj, out_proj: layers, (…, embed_dim) from (…, embed_dim, kdim, vdim or embed_dim).
    """

    q_proj: nn.Module
    k_proj: nn.Module
    v_proj: nn.Module

    @staticmethod
    def of(attention: nn.MultiheadAttention, **projections: nn.Module) -> HyperMultiheadAttention:
        """Return a copy of `attention` that shares everything with it, except its projections."""
        made = _subclass_of(type(attention))  # type: ignore[arg-type]
        copied = made.__new__(made)
        vars(copied).update(attributes_of(attention))
        for name in ("in_proj_weight", "in_proj_bias", *(f"{projection}_weight" for projection in PROJECTIONS)):
            del copied._parameters[name]
        copied._modules.update(projections)
        return copied

    # For code that reads the tensors of attention: in one piece, or each for itself if their widths differ.
    in_proj_weight = property(lambda self: self._packed("weight") if self._qkv_same_embed_dim else None)
    q_proj_weight = property(lambda self: self._separate("q_proj"))
    k_proj_weight = property(lambda self: self._separate("k_proj"))
    v_proj_weight = property(lambda self: self._separate("v_proj"))
    in_proj_bias = property(lambda self: self._packed("bias"))

    def _packed(self, attribute: str) -> Tensor | None:
        parts: list[Tensor | None] = [getattr(self._modules[name], attribute) for name in PROJECTIONS]
        return None if parts[0] is None else decoded_weight(torch.cat(parts), _refuse_write)  # type: ignore[arg-type]

    def _separate(self, projection: str) -> Tensor | None:
        return None if self._qkv_same_embed_dim else self._modules[projection].weight  # type: ignore[union-attr, return-value]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return outputs and weights of attention; arguments, shapes and layouts are those of `torch.nn.MultiheadAttention`.

        `is_causal` only hints that `attn_mask` is causal, and the mask says all.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal needs attn_mask, as in torch.nn.MultiheadAttention")
        is_batch = query.dim() == 3

        def turn(x: Tensor) -> Tensor:  # to (batch, length, features), and back
            return x if is_batch and self.batch_first else x.transpose(0, 1)

        if not is_batch:
            query, key, value = query[:, None], key[:, None], value[:, None]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        q, k, v = self.q_proj(turn(query)), self.k_proj(turn(key)), self.v_proj(turn(value))
        k, v, added = self._with_extra_keys(k, v)
        mask = self._mask(attn_mask, key_padding_mask, added, q)
        q, k, v = (x.unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2) for x in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(2, 3) / math.sqrt(self.head_dim)
            weights = F.dropout((scores if mask is None else scores + mask).softmax(3), dropout)
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        output = turn(self.out_proj(mixed.transpose(1, 2).flatten(2)))
        if is_batch:
            return output, weights
        return output[:, 0], None if weights is None else weights[0]

    def _with_extra_keys(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return keys and values (batch, length, embed_dim) with those that the module adds, and how many these are."""
        added = 0
        if self.bias_k is not None and self.bias_v is not None:
            more_k, more_v = (bias.to(k.dtype).expand(len(k), 1, -1) for bias in (self.bias_k, self.bias_v))
            k, v, added = torch.cat([k, more_k], 1), torch.cat([v, more_v], 1), 1
        if self.add_zero_attn:
            k, v = (F.pad(x, (0, 0, 0, 1)) for x in (k, v))
            added += 1
        return k, v, added

    def _mask(self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, added: int, q: Tensor) -> Tensor | None:
        """Return what is added to the scores, broadcastable to (batch, heads, queries, keys)."""
        parts = []
        if attn_mask is not None:
            parts.append(
                attn_mask if attn_mask.dim() == 2 else attn_mask.view(-1, self.num_heads, *attn_mask.shape[1:])
            )
        if key_padding_mask is not None:
            parts.append(key_padding_mask[:, None, None])
        return sum(F.pad(_additive(part, q.dtype), (0, added)) for part in parts) if parts else None  # type: ignore[return-value]

    def join(self) -> None:
        """Become the attention that this was made from, in place, if all projections are plain linear layers."""
        layers = [self._modules[name] for name in PROJECTIONS]
        if any(type(layer) is not nn.Linear for layer in layers):
            return
        for name in PROJECTIONS:
            del self._modules[name]
        weights = [nn.Parameter(layer.weight, layer.weight.requires_grad) for layer in layers]  # type: ignore[union-attr, arg-type]
        found: dict[str, nn.Parameter | None] = {"in_proj_weight": None}
        if self._qkv_same_embed_dim:
            found["in_proj_weight"] = _joined(weights)
            found |= {f"{name}_weight": None for name in PROJECTIONS}
        else:
            found |= {f"{name}_weight": weight for name, weight in zip(PROJECTIONS, weights, strict=True)}
        biases = [layer.bias for layer in layers]  # type: ignore[union-attr]
        found["in_proj_bias"] = None if biases[0] is None else _joined(biases)  # type: ignore[arg-type]
        others = dict(self._parameters)
        self.__class__ = type(self).__bases__[0]
        self._parameters.clear()
        self._parameters.update({**found, **others})

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Pickle and copy by the class of the original, because subclasses of it are made as they are needed."""
        return _empty, (type(self).__bases__[0],), vars(self)


def _joined(parts: list[nn.Parameter]) -> nn.Parameter:
    return nn.Parameter(torch.cat([part.detach() for part in parts]), parts[0].requires_grad)


def _refuse_write(_: nn.Parameter) -> None:
    raise HyperLinearError(
        "this tensor was joined from q_proj, k_proj and v_proj, so writing to it has no effect; write to their weights and "
        "biases, or call bhk.nn.to_dense(model) first"
    )


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask as numbers to add to scores; a true element of a boolean mask stands for minus infinity."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
    return mask.to(dtype)


def _empty(original: type[nn.MultiheadAttention]) -> HyperMultiheadAttention:
    made = _subclass_of(original)  # type: ignore[arg-type]
    return made.__new__(made)


@functools.cache
def _subclass_of(original: type[nn.MultiheadAttention]) -> type[HyperMultiheadAttention]:
    """Return a subclass of `original` whose `super().forward` is that of `HyperMultiheadAttention`."""
    if original is nn.MultiheadAttention:
        return HyperMultiheadAttention
    return type(f"Hyper{original.__name__}", (original, HyperMultiheadAttention), {})
