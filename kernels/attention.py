"""Attention with decomposed relative positions, without a matrix of scores or of biases in memory.

Tokens lie on a grid, and see those of their window of it. The score of the query at (y, x) for the key at (r, c) is

    scale * q @ k + q @ rows[y, r] + q @ columns[x, c]

and the result is softmax(scores) @ v. Forms of the same sum:

- A CPU takes blocks of queries small enough for the caches: a window, or some rows of it. Only the positions' part of a block's
  scores exists, as the mask of torch's fused attention.
- Else, where gradients are taken, and in exported graphs, that part goes into the product, with one-hot vectors for a key's
  row and column: score = [scale * q | q @ rows[y] | q @ columns[x]] @ [k | row | column]. Fused attention needs no mask then.

A graph for ONNX, which has no fused attention, adds that part to the scores of some rows of queries at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from .processor import is_faster

# Queries of one head taken at a time on a CPU: torch's kernel works on larger tiles from 768 on. Measured on Sapphire Rapids
# for 12 heads of 4,096 tokens: 0.40 s, against 0.46 with 512 queries, 0.60 with 128.
BLOCK_QUERIES = 1024
# Scores of a block where several heads fit into it: 4 MiB in float32, twice what a core's cache holds.
BLOCK_SCORES = 1 << 20
# The same in graphs for ONNX.
UNFUSED_QUERIES = 512
# Fused kernels for GPUs take heads whose width is a multiple of this.
HEAD_MULTIPLE = 8


def relative_attention(
    qkv: Tensor, padding: Tensor | None, rows: Tensor, columns: Tensor, scale: float, compute: str = "exact"
) -> Tensor:
    """Return what each token gathers from the tokens of its window, (batch, height, width, heads, head).

    Args:
        qkv: queries, keys and values of tokens on a grid, (batch, height, width, 3, heads, head).
        padding: query, key and value of what a window covers beyond the grid, (3, heads, head); None if windows fit.
        rows, columns: what a query is multiplied with for its own row and column and those of a key, (window height, window
            height, head) and (window width, window width, head).
        compute: "exact", or "int8", which lets a CPU round to bfloat16 where it multiplies that clearly faster.
    """
    # Compiled code calls the operator without the casts of autocast.
    rows, columns = rows.to(qkv.dtype), columns.to(qkv.dtype)
    padding = None if padding is None else padding.to(qkv.dtype)
    operands = [x for x in (qkv, padding, rows, columns) if x is not None]
    has_gradients = torch.is_grad_enabled() and any(x.requires_grad for x in operands)
    if _is_exported() and is_for_onnx():
        return _unfused(qkv, padding, rows, columns, scale)
    if qkv.device.type != "cpu" or has_gradients or _is_forward_mode() or _is_exported():
        return _one_hot(qkv, padding, rows, columns, scale)
    y: Tensor = _blocked(qkv, padding, rows, columns, scale, compute)
    return y


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """Return torch's scaled_dot_product_attention, also where gradients are taken in forward mode."""
    if not _is_forward_mode():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    with sdpa_kernel(SDPBackend.MATH):  # fused kernels have no such gradients
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def _is_exported() -> bool:
    """Return whether torch records a graph for other programs, which do not know the operator below."""
    is_traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return is_traced or torch.compiler.is_exporting()


def is_for_onnx() -> bool:
    """Return whether torch records a graph for ONNX."""
    return torch.onnx.is_in_onnx_export()


# Compilers call it once, instead of looking into it. (torch.compiler.assume_constant_result would import them for that.)
is_for_onnx._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _is_forward_mode() -> bool:
    """Return whether a tensor may have a tangent. (torch.func hides those of outer calls from inner ones.)"""
    return forward_ad._current_level >= 0


@torch.library.custom_op("bhk::relative_attention", mutates_args=())
def _blocked(qkv: Tensor, padding: Tensor | None, rows: Tensor, columns: Tensor, scale: float, compute: str) -> Tensor:
    """Serve a CPU. An operator, so that compilers see one step in place of loops over blocks."""
    rounded = compute == "int8" and qkv.dtype == torch.float32 and rounds_to_bfloat16()
    return _in_blocks(qkv, padding, rows, columns, scale, torch.bfloat16 if rounded else qkv.dtype)


def rounds_to_bfloat16() -> bool:
    """Return whether a CPU rounds to bfloat16 with `compute="int8"`: whether it multiplies that clearly faster."""
    return is_faster("bfloat16", "float32", _typical)


def _typical() -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Return attention among 2,048 tokens, rounded and not."""
    # The dtype and device are written out, because programs may set other defaults.
    qkv = torch.ones(1, 32, 64, 3, 1, 64, dtype=torch.float32, device="cpu")
    table = torch.zeros(64, 64, 64, dtype=torch.float32, device="cpu")
    rounded, exact = (
        partial(_in_blocks, qkv, None, table[:32, :32], table, 1.0, dtype) for dtype in (torch.bfloat16, torch.float32)
    )
    return rounded, exact


def _in_blocks(
    qkv: Tensor, padding: Tensor | None, rows: Tensor, columns: Tensor, scale: float, dtype: torch.dtype
) -> Tensor:
    """Take blocks of queries. Queries, keys and values are multiplied in `dtype`, and positions in their own."""
    y = _result(qkv)
    batch, height, width = qkv.shape[:3]
    tall, wide = len(rows), len(columns)
    scratch = qkv.new_empty(max(BLOCK_SCORES, max(BLOCK_QUERIES, wide) * tall * wide))
    for image in range(batch):
        for top in range(0, height, tall):
            for left in range(0, width, wide):
                place = image, slice(top, top + tall), slice(left, left + wide)
                tokens = _whole(qkv[place], padding, tall, wide)
                _attend(tokens, tokens.to(dtype), rows, columns, scale, scratch, y[place])
    return y


@_blocked.register_fake
def _(qkv: Tensor, padding: Tensor | None, rows: Tensor, columns: Tensor, scale: float, compute: str) -> Tensor:
    return _result(qkv)


def _result(qkv: Tensor) -> Tensor:
    return qkv.new_empty(*qkv.shape[:3], *qkv.shape[4:])


def _whole(tokens: Tensor, padding: Tensor | None, tall: int, wide: int) -> Tensor:
    """Return the tokens of a window (tall, wide, 3, heads, head), those beyond the edge filled in, row by row in memory."""
    if padding is None or tokens.shape[:2] == (tall, wide):
        return tokens.contiguous()
    whole = padding.expand(tall, wide, *padding.shape).contiguous()
    whole[: tokens.shape[0], : tokens.shape[1]] = tokens
    return whole


def _attend(
    tokens: Tensor, factors: Tensor, rows: Tensor, columns: Tensor, scale: float, scratch: Tensor, out: Tensor
) -> None:
    """Write what the tokens of a window gather to `out` (up to tall, up to wide, heads, head).

    `factors` are the same tokens in the dtype of the products; positions are added in float32 if that is bfloat16.
    """
    exact_q, *_ = tokens.permute(2, 3, 0, 1, 4)  # (heads, tall, wide, head)
    q, k, v = factors.permute(2, 3, 0, 1, 4).flatten(2, 3)  # (heads, tokens, head)
    heads, tall, wide, _ = exact_q.shape
    for head, line in _blocks(heads, out.shape[0], wide, tall * wide):
        queries = exact_q[head, line]
        by_row = torch.einsum("nrcd,rkd->nrck", queries, rows[line]).unsqueeze(-1)
        by_column = torch.einsum("nrcd,ckd->nrck", queries, columns).unsqueeze(-2)
        shape = *queries.shape[:3], tall, wide
        mask = torch.add(by_row, by_column, out=scratch[: by_row.numel() * wide].view(shape))
        found = F.scaled_dot_product_attention(
            q[head, line.start * wide : line.stop * wide].unsqueeze(0),
            k[head].unsqueeze(0),
            v[head].unsqueeze(0),
            attn_mask=mask.flatten(3).flatten(1, 2).unsqueeze(0),
            scale=scale,
        )
        out[line, :, head] = found[0].transpose(0, 1).unflatten(0, shape[1:3])[:, : out.shape[1]]


def _blocks(heads: int, tall: int, wide: int, keys: int) -> Iterator[tuple[slice, slice]]:
    """Cut a window into blocks of (heads, rows): all rows of several heads, or some rows of one head."""
    lines = max(1, min(tall, BLOCK_QUERIES // wide))
    several = max(1, min(heads, BLOCK_SCORES // (lines * wide * keys))) if lines == tall else 1
    for head in range(0, heads, several):
        for line in range(0, tall, lines):
            yield slice(head, head + several), slice(line, min(line + lines, tall))


def _one_hot(qkv: Tensor, padding: Tensor | None, rows: Tensor, columns: Tensor, scale: float) -> Tensor:
    """Serve GPUs, and gradients."""
    q, k, v = _windows(qkv, padding, len(rows), len(columns))
    tall, wide, head = q.shape[2:]
    missing = -(head + tall + wide) % HEAD_MULTIPLE
    row = torch.eye(tall, dtype=k.dtype, device=k.device).repeat_interleave(wide, 0)
    column = torch.eye(wide, dtype=k.dtype, device=k.device).repeat(tall, 1)
    place = torch.cat([row, column, row.new_zeros(len(row), missing)], 1).expand(*k.shape[:2], -1, -1)
    by_row, by_column = torch.einsum("bnrcd,rkd->bnrck", q, rows), torch.einsum("bnrcd,ckd->bnrck", q, columns)
    y = attend(
        torch.cat([scale * q, by_row, by_column, q.new_zeros(*q.shape[:4], missing)], -1).flatten(2, 3),
        torch.cat([k.flatten(2, 3), place], -1),
        torch.cat([v.flatten(2, 3), v.new_zeros(place.shape)], -1),
        scale=1.0,
    )
    return _grid(y[..., :head].unflatten(2, (tall, wide)), qkv)


def _unfused(qkv: Tensor, padding: Tensor | None, rows: Tensor, columns: Tensor, scale: float) -> Tensor:
    """Serve ONNX, which has no fused attention: some rows of queries at a time, whose scores are in memory."""
    q, k, v = _windows(qkv, padding, len(rows), len(columns))
    tall, wide = q.shape[2:4]
    lines = max(1, min(tall, UNFUSED_QUERIES // wide))
    keys, values = (scale * k.flatten(2, 3)).transpose(2, 3), v.flatten(2, 3)
    found = []
    for top in range(0, tall, lines):
        part = q[:, :, top : top + lines]  # (windows, heads, lines, wide, head)
        by_row = part @ rows[top : top + lines].transpose(1, 2)
        by_column = (part.transpose(2, 3) @ columns.transpose(1, 2)).transpose(2, 3)
        scores = (part.flatten(2, 3) @ keys).unflatten(3, (tall, wide)).unflatten(2, part.shape[2:4])
        scores = scores + by_row.unsqueeze(-1) + by_column.unsqueeze(-2)
        found.append((scores.flatten(4).flatten(2, 3).softmax(-1) @ values).unflatten(2, part.shape[2:4]))
    return _grid(torch.cat(found, 2), qkv)


def _windows(qkv: Tensor, padding: Tensor | None, tall: int, wide: int) -> tuple[Tensor, ...]:
    """Return queries, keys and values of windows, (windows, heads, tall, wide, head) each."""
    batch, height, width, _, heads, head = qkv.shape
    if padding is not None:
        below, right = -height % tall, -width % wide
        qkv = torch.cat([qkv, padding.expand(batch, below, width, -1, -1, -1)], 1)
        qkv = torch.cat([qkv, padding.expand(batch, height + below, right, -1, -1, -1)], 2)
    down, across = qkv.shape[1] // tall, qkv.shape[2] // wide
    cut = qkv.reshape(batch, down, tall, across, wide, 3, heads, head)
    return cut.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, batch * down * across, heads, tall, wide, head).unbind(0)


def _grid(y: Tensor, qkv: Tensor) -> Tensor:
    """Return what the tokens of windows gathered, (windows, heads, tall, wide, head), on the grid of `qkv`."""
    batch, height, width = qkv.shape[:3]
    _, heads, tall, wide, head = y.shape
    down, across = (height + tall - 1) // tall, (width + wide - 1) // wide
    y = y.reshape(batch, down, across, heads, tall, wide, head).permute(0, 1, 4, 2, 5, 3, 6)
    return y.reshape(batch, down * tall, across * wide, heads, head)[:, :height, :width]
