"""A .bhk file back to a dense checkpoint: `bhk.export`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from bhk.bhkfile import open_file
from bhk.checkpoint import Layout, TensorSpec, write
from bhk.codec.dtypes import TORCH_DTYPES

Progress = Callable[[int, int], None]


def export(
    path: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    shard_bytes: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Write the dense weights under the original names, wrapper and dtypes, so that any program loads them.

    Args:
        dst: a .pth, .pt, .bin (torch) or .safetensors file.
        shard_bytes: cut into shards of at most this size, with an index as Hugging Face libraries read it.
        force: replace `dst` if it exists.
        progress: called with (bytes of dense tensors done, all bytes).

    Returns:
        the files written.

    Raises:
        ReadError, FormatError: the .bhk file cannot be read or breaks a rule of the format.
        WriteError: the destination exists, is the source, or cannot be written; it is left as it was.
        UnsupportedFormatError: the suffix of `dst` is not known.
    """
    with open_file(path) as file:
        specs = [TensorSpec(layer.name, TORCH_DTYPES[layer.dtype], layer.shape) for layer in file.layers]
        done, total = 0, sum(spec.nbytes for spec in specs)

        def advance(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            if progress:
                progress(done, total)

        return write(
            Path(dst),
            specs,
            file.tensor,
            aliases={layer.name: layer.aliases for layer in file.layers if layer.aliases},
            layout=Layout.from_metadata(file.metadata),
            shard_bytes=shard_bytes,
            force=force,
            sources=(Path(path),),
            progress=advance,
        )
