"""A .bhk file back to a dense checkpoint: `bhk.export`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from bhk.base.errors import BhkError
from bhk.base.files import check_destination, replace_file
from bhk.checkpoint import Layout, TensorSpec, write
from bhk.checkpoint.companions import companions_of
from bhk.codec.dtypes import TORCH_DTYPES
from bhk.file.bhkfile import open_file
from bhk.hub.download import local_file
from bhk.hub.ranges import open_container
from bhk.sam.variants import published_files, title_of

Progress = Callable[[int, int], None]

_TRANSFORMERS = "model.safetensors"  # what transformers looks for in a folder


class UnnamedModelError(BhkError):
    """A model was never published, so that no file name is its own."""


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
        path: the .bhk file, or one on the Hugging Face Hub, "hf://user/repo[/file.bhk][@revision]".
        dst: a .pth, .pt, .bin (torch) or .safetensors file; or a folder, in which the file gets its official name,
            by which many programs choose the architecture (see `name_in_folder`), and the configuration files that stood
            beside the original, which transformers needs.
        shard_bytes: cut into shards of at most this size, with an index as Hugging Face libraries read it.
        force: replace `dst` if it exists.
        progress: called with (bytes of dense tensors done, all bytes).

    Returns:
        the files written.

    Raises:
        HubError: the Hub did not give the .bhk file.
        ReadError, FormatError: the .bhk file cannot be read or breaks a rule of the format.
        WriteError: the destination exists, is the source, or cannot be written; it is left as it was.
        UnsupportedFormatError: the suffix of `dst` is not known.
        UnnamedModelError: `dst` is a folder, and the model has no official file name.
    """
    target, _ = name_in_folder(path, dst)
    source = local_file(path)
    with open_file(source) as file:
        companions = companions_of(file.metadata) if target != Path(dst) else {}
        for name in companions:
            check_destination(target.with_name(name), force=force)
        specs = [TensorSpec(layer.name, TORCH_DTYPES[layer.dtype], layer.shape) for layer in file.layers]
        done, total = 0, sum(spec.nbytes for spec in specs)

        def advance(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            if progress:
                progress(done, total)

        files = write(
            target,
            specs,
            file.tensor,
            aliases={layer.name: layer.aliases for layer in file.layers if layer.aliases},
            layout=Layout.from_metadata(file.metadata),
            shard_bytes=shard_bytes,
            force=force,
            sources=(source,),
            progress=advance,
        )
    for name, text in companions.items():
        with replace_file(target.with_name(name), force=force) as beside:
            beside.write(text.encode("utf-8"))
    return (*files, *map(target.with_name, companions))


def name_in_folder(path: str | os.PathLike[str], dst: str | os.PathLike[str]) -> tuple[Path, tuple[str, ...]]:
    """Return the file to write for a destination, and other official names that the model could as well have.

    A destination that is a folder, or ends in a slash, is completed by the name under which the model was published: that
    of the source if it is one; else the first of the table, for weights of one architecture (SAM-B and MedSAM, or any
    fine-tune of them) have the same names and shapes; else what transformers looks for, if the file keeps the configuration
    of one of its models. Any other destination is returned as it is.

    Raises:
        HubError: the Hub did not give the .bhk file.
        ReadError, FormatError: the .bhk file cannot be read or breaks a rule of the format.
        UnnamedModelError: the model has no official file name.
    """
    target = Path(dst)
    if not (target.is_dir() or os.fspath(dst).endswith(("/", os.sep))):
        return target, ()
    with open_container(path) as container:
        model, metadata = container.header.model, container.header.metadata
    names = published_files(model.family, model.variant) if model else ()
    if companions_of(metadata):
        names = names or (_TRANSFORMERS,)
    if not names:
        held = f"holds {title_of(model.family, model.variant)}" if model else "does not say which model it holds"
        raise UnnamedModelError(f"{path} {held}, so there is no official file name; give the name of the file to write")
    first = metadata["source.name"] if metadata.get("source.name") in names else names[0]
    chosen, *others = (name.removesuffix(".zip") for name in (first, *(name for name in names if name != first)))
    return target / chosen, tuple(others)
