"""Checkpoints inside ordinary zip files, as EfficientSAM publishes them."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bhk.base.errors import listed, option, shown
from bhk.base.names import WEIGHT_SUFFIXES
from bhk.checkpoint.errors import (
    AmbiguousCheckpointError,
    CorruptCheckpointError,
    NotACheckpointError,
    UnknownWeightsError,
    UnreadableCheckpointError,
)


@contextlib.contextmanager
def unpacked(path: Path, key: str | None) -> Iterator[tuple[Path, str, str | None]]:
    """Yield the checkpoint in the zip file at `path` as a temporary file, its name for messages, and the rest of `key`.

    If the zip file holds several checkpoints, `key` selects one, and nothing of it is left. The temporary file is removed when
    the block ends; tensors that are mapped from it stay valid.

    Raises:
        NotACheckpointError, AmbiguousCheckpointError, UnknownWeightsError: it does not hold exactly one such checkpoint.
        CorruptCheckpointError: it is damaged or encrypted.
    """
    # Windows cannot remove a mapped file; there the system removes it later.
    with tempfile.TemporaryDirectory(prefix="bhk-", ignore_cleanup_errors=True) as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                member, rest = _choose(archive.namelist(), key, path)
                size, free = archive.getinfo(member).file_size, shutil.disk_usage(folder).free
                if size > free:
                    raise UnreadableCheckpointError(
                        f"cannot unpack {path}: {shown(member)} is {size:,} bytes, {folder} has {free:,} free"
                    )
                target = Path(folder) / ("checkpoint" + PurePosixPath(member).suffix)
                with archive.open(member) as packed, open(target, "wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
        except OSError as error:
            raise UnreadableCheckpointError(f"cannot unpack {path}: {error.strerror or error}") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise CorruptCheckpointError(f"cannot unpack {path} ({shown(error)}); get the file again") from error
        yield target, f"{shown(member)} in {path}", rest


def _choose(members: list[str], key: str | None, path: Path) -> tuple[str, str | None]:
    names = [name for name in members if _is_checkpoint(PurePosixPath(name))]
    if not names:
        raise NotACheckpointError(
            f"{path} is a zip file without a checkpoint (it holds {listed(members) or 'nothing'}); expected a .pth,"
            " .pt, .bin or .safetensors file inside"
        )
    if len(names) == 1:
        return names[0], None if key == names[0] else key
    if key is None:
        raise AmbiguousCheckpointError(
            f"{path} holds several checkpoints: {listed(names)}; choose one with {option('key')}", tuple(names)
        )
    if key not in names:
        raise UnknownWeightsError(f"{path} holds no checkpoint {shown(key)!r}; it has: {listed(names)}")
    return key, None


def _is_checkpoint(name: PurePosixPath) -> bool:
    """Return whether a member is a checkpoint, and not one of the files that macOS adds."""
    return name.suffix in WEIGHT_SUFFIXES and "__MACOSX" not in name.parts and not name.name.startswith(".")
