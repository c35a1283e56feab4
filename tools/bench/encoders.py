"""Image encoders and mask decoders, dense beside HyperLinear layers.

SAM-H, SAM-B, SAM2-B+ and SAM-L with random weights; the sides hold equal values and take turns. On a GPU bfloat16, and
float32 as TF32 for SAM-H and SAM-B; on a CPU, to try the benchmark, a tiny SAM in float32. "how" is what runs a part: eager
calls, a CUDA graph, or torch.compile of each block of the encoder. No graph can hold copies from the CPU, so constants that the
packages make there in every call are made on the GPU, except in eager calls. Decoders start from embedded prompts and the
features that the dense side finds in one image.

Milliseconds are medians, on a GPU by CUDA events. Memory is the part's weights and what a call takes beside them, without its
inputs. The error is relative to the dense side's outputs. A row with a note failed.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from bhk.sam.architecture import VitSam
from bhk.sam.variants import VARIANTS, Variant
from tools.bench.frame.benchmark import Benchmark, Row, Rows, Run, one_line
from tools.bench.frame.memory import MIB, linear_bytes, module_bytes
from tools.bench.frame.timing import Pool, alternate, captured
from tools.bench.models.coded_sam import SIDES, coded_parts, sides_of
from tools.bench.models.sam_parts import Parts, random_points, relative_error

MODELS = tuple(VARIANTS[name] for name in ("sam_vit_h", "sam_vit_b", "sam2_hiera_base_plus", "sam_vit_l"))
_TINY = VitSam(64, 2, 2, (1,), image_size=128, window_size=4, prompt_embed_dim=64, decoder_mlp_dim=128)
TINY = Variant("tiny", "sam", "tiny SAM", (), architecture=_TINY)
BUILDING = 15.0  # seconds that a model is likely to take
EXPECTED = {"eager": 5.0, "graph": 5.0, "compile": 45.0}  # seconds that a group is likely to take
RECOMPILATIONS = 64  # of one block's code: three sides, kinds of attention, numbers of outliers

Output = tuple[Tensor, ...]


@dataclass(frozen=True)
class Group:
    """What is measured of all sides at once.

    Attributes:
        batch: images, of the encoder.
        how: "eager", "graph" or "compile".
        prompts: of the mask decoder; 0 measures the image encoder.
        dtype: of weights and activations; on a GPU, float32 products are TF32.
    """

    model: Variant
    batch: int = 1
    how: str = "eager"
    prompts: int = 0
    dtype: torch.dtype = torch.bfloat16

    @property
    def part(self) -> str:
        if not self.prompts:
            return "encoder"
        return f"decoder, {self.prompts} prompt{'s' if self.prompts > 1 else ''}"

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.model.title}, {self.part}, batch {self.batch}, {self.how}, {dtype}"


def groups(device: str, *, quick: bool = False) -> Iterator[Group]:
    """Yield what to measure, the most important first; with `quick` an encoder and a decoder."""
    if quick:
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        yield from (Group(TINY, dtype=dtype), Group(TINY, prompts=1, dtype=dtype))
        return
    if device == "cpu":
        yield from _uncompiled(TINY, ("eager",), torch.float32)
        yield Group(TINY, how="compile", dtype=torch.float32)
        return
    large, base, *others = MODELS
    for model in (large, base):
        yield from _uncompiled(model, ("eager", "graph"), torch.bfloat16)
        yield Group(model, dtype=torch.float32)
    yield from _uncompiled(others[0], ("eager", "graph"), torch.bfloat16)
    for model in (large, base):
        yield Group(model, how="compile")
    for model in others[1:]:
        yield from _uncompiled(model, ("eager", "graph"), torch.bfloat16)
    for model in others:
        yield Group(model, how="compile")


def _uncompiled(model: Variant, hows: tuple[str, ...], dtype: torch.dtype) -> Iterator[Group]:
    for batch in (1, 8):
        for how in hows:
            yield Group(model, batch, how, dtype=dtype)
    for prompts in (1, 8, 64):
        for how in hows:
            yield Group(model, how=how, prompts=prompts, dtype=dtype)


_coded: dict[tuple[Variant, str], Parts] = {}


@cache
def sides(model: Variant, dtype: torch.dtype, device: str) -> dict[str, Parts]:
    """Return the sides of a model, built when they are first needed; see `sides_of`."""
    if (model, device) not in _coded:
        _coded[model, device] = coded_parts(model, device)
    return sides_of(_coded[model, device], dtype)


@dataclass(frozen=True)
class Prepared:
    """A side that is ready to be timed.

    Attributes:
        output: of one call.
        peak: bytes of the part's weights and of what a call takes beside them; None on a CPU.
    """

    call: Callable[[], Output]
    output: Output
    peak: int | None


def measure(group: Group, run: Run) -> Rows:
    """Return a row a side; a side that fails has its error as a note."""
    rows = {side: _empty_row(group, side, run.device) for side in SIDES}
    try:
        built = sides(group.model, group.dtype, run.device)
        with _settings(group, run.device):
            _fill(rows, group, built, run.device)
        for side, parts in built.items():  # after the calls, because these pack weights
            held, dense = linear_bytes(_part(parts, group)), linear_bytes(_part(built["dense"], group))
            rows[side] |= {"linear_mib": f"{held / MIB:.2f}", "linear_share": f"{held / dense:.4f}"}
    except Exception as error:  # the rows say what kept the group from being measured
        for row in rows.values():
            row.setdefault("note", one_line(error))
    return list(rows.values())


def _empty_row(group: Group, side: str, device: str) -> Row:
    named: Row = {"model": group.model.title, "part": group.part, "batch": group.batch, "how": group.how, "side": side}
    is_tf32 = group.dtype == torch.float32 and device == "cuda"
    return named | {"dtype": str(group.dtype).removeprefix("torch.") + (" (tf32)" if is_tf32 else "")}


def _part(parts: Parts, group: Group) -> nn.Module:
    part: nn.Module = parts.decoder if group.prompts else parts.encoder
    return part


@contextlib.contextmanager
def _settings(group: Group, device: str) -> Iterator[None]:
    """Set torch up for a group, and put everything back."""
    precision = torch.get_float32_matmul_precision()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.callback(torch.set_float32_matmul_precision, precision)
        torch.set_float32_matmul_precision("high" if device == "cuda" else "highest")
        if group.how != "eager":  # no graph can hold the copying of constants made on the CPU
            stack.enter_context(torch.device(device))
        if group.how == "compile":
            config: Any = torch._dynamo.config
            stack.enter_context(config.patch(force_parameter_static_shapes=False, recompile_limit=RECOMPILATIONS))
            stack.callback(torch._dynamo.reset)
        yield


def _fill(rows: dict[str, Row], group: Group, built: Mapping[str, Parts], device: str) -> None:
    """Measure the sides, and write what was found into their rows."""
    inputs = _inputs(group, built["dense"], device)
    pool = torch.cuda.graph_pool_handle() if group.how == "graph" else None
    prepared: dict[str, Prepared] = {}
    for side, parts in built.items():
        try:
            prepared[side] = _prepare(group, parts, inputs, pool, device)
        except Exception as error:  # for example a kernel that does not compile
            rows[side]["note"] = one_line(error)
    seconds = alternate({side: found.call for side, found in prepared.items()}, device)
    for side, found in prepared.items():
        rows[side]["ms"] = f"{1e3 * seconds[side]:.4f}"
        if found.peak is not None:
            rows[side]["peak_mib"] = f"{found.peak / MIB:.1f}"
        if "dense" in prepared:
            rows[side]["speed"] = f"{seconds['dense'] / seconds[side]:.3f}"
            rows[side]["error"] = f"{relative_error(found.output, prepared['dense'].output):.2e}"


def _inputs(group: Group, dense: Parts, device: str) -> Any:
    """Return the input of the part, the same for all sides."""
    torch.manual_seed(0)
    image = torch.randn(group.batch, 3, dense.size, dense.size, device=device, dtype=group.dtype)
    if not group.prompts:
        return image
    return dense.ask(dense.encode(image), random_points(group.prompts, dense.size, device))


def _prepare(group: Group, parts: Parts, inputs: Any, pool: Pool | None, device: str) -> Prepared:
    """Compile or capture a side's call, as the group says, and call it."""
    if group.how == "compile":
        parts = copy.deepcopy(parts)
        for index, block in enumerate(parts.blocks):
            parts.blocks[index] = torch.compile(block, fullgraph=True)
    held = module_bytes(_part(parts, group))
    call = partial(parts.decode if group.prompts else parts.encode, inputs)
    if pool is not None:
        replay, peak = _with_peak(lambda: captured(call, pool), held, device)
        return Prepared(replay, _copied(replay()), peak)
    for _ in range(2):
        call()
    output, peak = _with_peak(call, held, device)
    return Prepared(call, _copied(output), peak)


def _with_peak(work: Callable[[], Any], held: int, device: str) -> tuple[Any, int | None]:
    """Return what `work` returns, and the most bytes that it takes, plus those `held`; None for them on a CPU."""
    if device == "cpu":
        return work(), None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = work()
    torch.cuda.synchronize()
    return result, held + torch.cuda.max_memory_allocated() - before


def _copied(output: Output) -> Output:
    return tuple(tensor.float() if tensor.dtype != torch.float32 else tensor.clone() for tensor in output)


def _expected(group: Group, run: Run) -> float:
    return EXPECTED[group.how] + (0.0 if (group.model, run.device) in _coded else BUILDING)


BENCHMARK = Benchmark(
    lambda run: groups(run.device, quick=run.quick),
    measure,
    case="model part batch how side dtype",
    figures="ms speed peak_mib linear_mib linear_share error note",
    csv="encoders_{device}",
    shown="model part batch how side dtype ms speed note",
    devices=("cpu", "cuda"),
    expected=_expected,
)
