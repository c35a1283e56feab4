"""Loading a .bhk file into a model: `bhk.load_into`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

from torch import nn

from bhk.base.errors import listed
from bhk.base.parallel import worker_count
from bhk.base.progress import Progress, silent
from bhk.base.report import Report
from bhk.base.texts import choices, counted, size
from bhk.file.bhkfile import BhkFile, open_downloaded
from bhk.nn.building import build
from bhk.nn.device import Device, usable_device
from bhk.nn.errors import LoadOptionError
from bhk.nn.hyperlinear import Compute
from bhk.nn.model_tensors import model_tensors, names_on_meta, unchanged_on_error
from bhk.nn.plan import SHOWN, LoadOptions, Mode, make_plan, refuse_empty
from bhk.nn.precision import Dtype, floating_dtype


@dataclass(frozen=True)
class LoadReport(Report):
    """What `load_into` did to a model.

    Attributes:
        missing: names of the model's tensors that the file does not hold; they were left as they were.
        unexpected: names of the file's tensors that the model does not have.
        replaced: number of weights that are held as codes.
        bytes: memory of the model's parameters and buffers.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    replaced: int
    bytes: int

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        yield f"{size(self.bytes)} in memory; {counted(self.replaced, 'weight')} held as codes"
        for names, where in ((self.missing, "of the model not in the file"), (self.unexpected, "of the file not used")):
            if names:
                yield f"{counted(len(names), 'tensor')} {where}: {listed(names, SHOWN)}"


def load_into(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    mode: Mode = "auto",
    compute: Compute = "exact",
    device: Device | None = None,
    dtype: Dtype | None = None,
    strict: bool = True,
    prefix: str = "",
    ignore: Iterable[str] = (),
    verify: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
) -> LoadReport:
    """Load a .bhk file into `model` and put the model in eval mode. After an error the model is unchanged.

    A model that already has weights keeps them in memory until the new ones are complete. A model built under
    `bhk.nn.weights_on_meta()` or `torch.device("meta")` has none, and never takes more memory than the loaded model.

    Parameters stay the same objects, so an optimizer that was made before goes on with them. Weights that are held as codes are
    no longer parameters.

    This replaces linear layers, vocabularies and `nn.MultiheadAttention`; `bhk.sam.fuse_attention` also makes the attention of
    Segment Anything models faster.

    >>> model = bhk.load("demo_sam.safetensors")
    >>> report = bhk.load_into(model, "demo_sam.bhk", mode="hyper", dtype="bfloat16")
    >>> report.replaced, report.missing
    (70, ())

    Args:
        model: any module whose state dict has the names and shapes of the file.
        path: a .bhk file, a folder that holds one, or a place on the Hugging Face Hub:
            "hf://user/repo[/file.bhk][@revision]".
        mode: "hyper" keeps the codes of weights that are coded row by row and not shared: a `HyperLinear` takes the place of
            each plain `nn.Linear`, a `HyperEmbedding` of each `nn.Embedding` of 4,096 rows or more, and `nn.MultiheadAttention`
            gets a `HyperLinear` for each projection. "auto" does so where it costs no time: on a CPU, weights of up to 2^19
            elements (those of mask decoders) are decoded. "dense" decodes every weight. `model` itself is never replaced.
        compute: how each `HyperLinear` multiplies. "exact" gives the result of the decoded weights; "int8" rounds
            activations to 8 bits, which is faster for many rows.
        device: where all tensors go. None leaves each where it is in `model`, and puts tensors on meta on the CPU.
        dtype: dtype of all floating-point tensors, such as "bfloat16". None keeps each tensor's dtype in `model`.
        strict: refuse tensors that only the file or only the model has. Shapes must always agree.
        prefix: what the names in the file have in front of the model's. Tensors without it are skipped.
        ignore: patterns (see `fnmatch`) of names, without the prefix, that only the file or only the model may have.
        verify: check the hash of each stream.
        threads: number of threads that decode; by default one per core.
        progress: called with ("Loading", bytes of dense tensors done, all bytes).

    Raises:
        HubError: the Hub did not deliver the file.
        ReadError, FormatError: the file cannot be read or breaks a rule of the format.
        LoadOptionError: `mode`, `compute`, `device` or `dtype` has an impossible value.
        MismatchError: names, shapes or kinds of number differ between file and model; the message suggests a reason.
        NoDataError: a tensor of the model is on the meta device and not in the file.
        ModelMemoryError: the device does not have enough memory.
    """
    options = load_options(
        mode=mode,
        compute=compute,
        device=device,
        dtype=dtype,
        strict=strict,
        prefix=prefix,
        ignore=ignore,
        threads=threads,
        progress=progress,
    )
    with open_downloaded(path, verify=verify) as file:
        return load_file(model, file, options)


def load_options(
    *,
    mode: Mode = "auto",
    compute: Compute = "exact",
    device: Device | None = None,
    dtype: Dtype | None = None,
    strict: bool = True,
    prefix: str = "",
    ignore: Iterable[str] = (),
    threads: int | None = None,
    progress: Progress | None = None,
) -> LoadOptions:
    """Check the options of `load_into`, which describes them.

    Raises:
        LoadOptionError, ThreadsError: a value is impossible.
    """
    for name, value, known in (("mode", mode, get_args(Mode)), ("compute", compute, get_args(Compute))):
        if value not in known:
            raise LoadOptionError(f"{name} {value!r} is unknown; choose {choices(known)}")
    return LoadOptions(
        mode=mode,
        compute=compute,
        device=None if device is None else usable_device(device),
        dtype=None if dtype is None else floating_dtype(dtype),
        strict=strict,
        prefix=prefix,
        own_name=str,
        ignore=tuple(ignore),
        held=(),
        threads=worker_count(threads),
        progress=progress or silent,
    )


def load_file(model: nn.Module, file: BhkFile, options: LoadOptions) -> LoadReport:
    """Load an open .bhk file into `model`; see `load_into`."""
    file.check_size()
    plan = make_plan(model, file, options)
    changes = build(file, plan, options)
    with unchanged_on_error(model):
        for change in changes:
            change.apply()
        model.eval()
        refuse_empty(names_on_meta(model))
    return LoadReport(
        missing=plan.missing,
        unexpected=plan.unexpected,
        replaced=sum(len(step.held) for step in plan.replacements),
        bytes=sum(target.tensor.nbytes for target in model_tensors(model)),
    )
