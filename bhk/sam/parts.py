"""MobileSAMv2 as one model. It is published in two files: an image encoder, and a prompt encoder with a mask decoder.

A folder with both of them is read as one checkpoint, with the names that `segment_anything` and `mobile_sam` give to the same
modules.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bhk.base.texts import counted
from bhk.checkpoint import Checkpoint, read
from bhk.checkpoint.contents import Source
from bhk.checkpoint.errors import AmbiguousCheckpointError, CheckpointError
from bhk.checkpoint.layout import Layout

_DECODER = {"PromtEncoder": "prompt_encoder", "MaskDecoder": "mask_decoder"}  # the publishers' names, and everyone's
_ENCODER = "image_encoder."
# The variant of the joined model, by the name of a tensor of its encoder.
_VARIANTS = {
    "image_encoder.blocks.0.attn.rel_pos_h": "mobile_sam_v2_vit_h",
    "image_encoder.layers.0.blocks.0.conv1.c.weight": "mobile_sam_v2_vit_t",
    "image_encoder.neck.input_ops.0.op_list.0.conv.weight": "mobile_sam_v2_efficientvit_l2",
}


def read_whole(src: str | os.PathLike[str], key: str | None) -> tuple[Checkpoint, str | None]:
    """Read a checkpoint, or a folder with the two files of MobileSAMv2, and return it with the variant that it was joined to.

    Raises:
        CheckpointError: see `bhk.checkpoint.read`.
    """
    try:
        return read(src, key=key), None
    except AmbiguousCheckpointError as error:
        joined = _joined(Path(src), error.choices) if key is None and Path(src).is_dir() else None
        if joined is None:
            raise
    return joined, next((variant for name, variant in _VARIANTS.items() if name in joined.tensors), None)


def is_in_two_files(folder: Path, names: Sequence[str]) -> bool:
    """Return whether the checkpoints `names` of a folder are the two files of MobileSAMv2.

    Files that cannot be read are not; whoever converts them will say why.
    """
    try:
        return _joined(folder, names) is not None
    except CheckpointError:
        return False


@dataclass(frozen=True)
class _Part:
    """Tensors of a checkpoint under other names."""

    tensors: dict[str, Tensor]
    aliases: dict[str, tuple[str, ...]]


def _joined(folder: Path, names: Sequence[str]) -> Checkpoint | None:
    """Return the checkpoint in two files, if one of them is MobileSAMv2's decoder."""
    if len(names) != 2:
        return None
    files = [read(folder / name) for name in names]
    decoders = [file for file in files if set(file.layout.groups) == set(_DECODER)]
    if len(decoders) != 1:
        return None
    (decoder,), (encoder,) = decoders, [file for file in files if file not in decoders]
    whole = any(name.startswith(_ENCODER) for name in encoder.tensors)  # it has a decoder of its own, which is replaced
    first = _part(encoder, lambda name: (name if name.startswith(_ENCODER) else None) if whole else _ENCODER + name)
    second = _part(decoder, _public)
    others = len(encoder.tensors) - len(first.tensors)
    source = Source(
        folder.name or folder.resolve().name,
        (*encoder.source.files, *decoder.source.files),
        mapped=(*encoder.source.mapped, *decoder.source.mapped),
    )
    replaced = (f"{counted(others, 'tensor')} of {encoder.source.name} outside its image encoder",) if others else ()
    left_out = (*encoder.left_out, *replaced, *decoder.left_out)
    return Checkpoint(
        {**first.tensors, **second.tensors}, {**first.aliases, **second.aliases}, Layout(), source, left_out
    )


def _part(checkpoint: Checkpoint, rename: Callable[[str], str | None]) -> _Part:
    """Return the tensors of a checkpoint that `rename` has a name for."""
    tensors, aliases = {}, {}
    for name, tensor in checkpoint.tensors.items():
        new = rename(name)
        if new is not None:
            tensors[new] = tensor
            aliases[new] = tuple(filter(None, map(rename, checkpoint.aliases.get(name, ()))))
    return _Part(tensors, {name: others for name, others in aliases.items() if others})


def _public(name: str) -> str:
    group, _, rest = name.partition(".")
    return f"{_DECODER[group]}.{rest}"
