"""Is a .bhk file intact, and how far is it from the original: `bhk.verify`. Only the comparison needs torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bhk.base.errors import BhkError
from bhk.base.packages import explained_imports
from bhk.base.progress import Progress, silent
from bhk.base.report import Report
from bhk.base.tables import Column, Table
from bhk.base.texts import counted, number, scientific, size
from bhk.container.header import LayerEntry
from bhk.file.bhkfile import BhkFile, open_file
from bhk.hub.address import public_name
from bhk.hub.download import local_file

if TYPE_CHECKING:
    from torch import Tensor

    from bhk.codec.difference import Difference
    from bhk.sam.checkpoints import TensorFile

# The file keeps errors to five significant digits, and fused multiply-add may change the last digit of a tensor.
ERROR_TOLERANCE = 1e-4
SNR_TOLERANCE_DB = 0.01


class VerificationError(BhkError):
    """A .bhk file is intact, but was not made from the given original."""


@dataclass(frozen=True)
class VerifiedLayer:
    """A tensor that was checked.

    Attributes:
        name: its name.
        encoding: "trajectory" (coded) or "exact".
        difference: how far it is from the original; None if there was no original to compare with.
    """

    name: str
    encoding: str
    difference: Difference | None


@dataclass(frozen=True)
class VerificationReport(Report):
    """What `bhk.verify` found in an intact file.

    Attributes:
        path: the file, as it was given.
        bytes: size of the file.
        streams: number of streams whose hashes were checked.
        layers: one entry per tensor.
        against: file name of the original; None if there was none.
    """

    path: str
    bytes: int
    streams: int
    layers: tuple[VerifiedLayer, ...]
    against: str | None

    @property
    def snr_db(self) -> float | None:
        """Signal-to-noise ratio of all coded tensors together, in dB; None without an original, or if none is coded."""
        found = [layer.difference for layer in self._coded if layer.difference is not None]
        if not found:
            return None
        from bhk.codec.error import decibels

        return decibels(sum(one.signal for one in found), sum(one.noise for one in found))

    @property
    def against_itself(self) -> bool:
        """Whether `against` holds the decoded weights, so that it cannot be the original."""
        differences = [layer.difference for layer in self._coded]
        return bool(differences) and all(found is not None and found.equal for found in differences)

    @property
    def hints(self) -> tuple[str, ...]:
        """A warning if the file was compared with its own decoded weights."""
        return (
            (f"warning: {self.against} holds the decoded weights; it is not the original",)
            if self.against_itself
            else ()
        )

    def lines(self) -> Iterator[str | Table]:
        """Yield the error of each coded tensor, if there was an original, and what was checked."""
        summary = (
            f"{self.path} is intact: {size(self.bytes)}, {counted(len(self.layers), 'tensor')} and "
            f"{counted(self.streams, 'stream')} checked"
        )
        if self.against is None:
            yield summary
            return
        rows = [
            (layer.name, number(layer.difference.snr_db, 1), scientific(layer.difference.max_abs))
            for layer in self._coded
            if layer.difference is not None
        ]
        yield Table((Column("coded tensor", "left", least=36), Column("SNR dB"), Column("max error")), rows)
        yield f"all coded tensors together: {number(self.snr_db, 1, ' dB')}"
        yield f"{counted(len(self.layers) - len(rows), 'exact tensor')} equal to the original"
        yield f"{summary}; no coded tensor is farther from {self.against} than the file says"

    @property
    def _coded(self) -> list[VerifiedLayer]:
        return [layer for layer in self.layers if layer.encoding == "trajectory"]


def verify(
    path: str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    *,
    key: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> VerificationReport:
    """Check a .bhk file completely: its header, every rule of the format, and the hash and codes of every stream.

    >>> report = bhk.verify("demo_sam.bhk", "demo_sam.safetensors")
    >>> report.against, report.against_itself
    ('demo_sam.safetensors', False)
    >>> bhk.verify("demo_sam.safetensors")
    Traceback (most recent call last):
    ...
    bhk.container.errors.BadMagicError: ...

    Args:
        path: a file, or "hf://user/repo[/file.bhk][@revision]" on the Hugging Face Hub.
        against: the original checkpoint; every tensor is then compared with it, too.
        key: the state dict to use, if the original holds several.
        threads: number of worker threads; None for one per core.
        progress: called with ("Verifying", dense bytes checked, all dense bytes).

    Raises:
        HubError: the file could not be downloaded from the Hub.
        ReadError, FormatError: the file cannot be read, or breaks a rule of the format.
        CheckpointError: the original cannot be read.
        VerificationError: names, shapes or dtypes differ from the original's; an exact tensor is not equal to the
            original's; or a coded tensor is farther from it than the file says.
    """
    with open_file(local_file(path)) as file:
        file.container.check_padding()
        if against is None:
            layers = _check(file, ((name, None) for name, _ in file.arrays(threads=threads)), progress or silent)
        else:
            with explained_imports():
                from bhk.sam.checkpoints import open_tensors
            with open_tensors(against, key) as original:
                _check_names(file, original)
                layers = _check(file, _differences(file, original, threads), progress or silent)
        streams = sum(len(layer.streams) for layer in file.layers)
        length = file.container.source.length
    return VerificationReport(
        public_name(path), length, streams, layers, None if against is None else Path(public_name(against)).name
    )


def _check_names(file: BhkFile, original: TensorFile) -> None:
    for names, where, other in (
        (original.names, original.label, set(file.names)),
        (file.names, "the file", set(original.names)),
    ):
        alone = [name for name in names if name not in other]
        if alone:
            raise _not_the_original(original, f"{counted(len(alone), 'tensor')} only in {where}, such as {alone[0]!r}")


def _check(
    file: BhkFile, found: Iterable[tuple[str, Difference | None]], progress: Progress
) -> tuple[VerifiedLayer, ...]:
    """Read all tensors by walking through `found`: the difference of each name in the file."""
    layers = {layer.name: layer for layer in file.layers}
    done, total = 0, sum(layer.dense_bytes for layer in file.layers)
    checked = []
    for name, difference in found:
        if name in layers:
            checked.append(VerifiedLayer(name, layers[name].encoding, difference))
            done += layers[name].dense_bytes
            progress("Verifying", done, total)
    return tuple(checked)


def _differences(file: BhkFile, original: TensorFile, threads: int | None) -> Iterator[tuple[str, Difference]]:
    """Compare every name with the original: an alias may be a tensor of its own there."""
    for name, tensor in file.tensors(threads=threads):
        yield name, _difference(file.layer(name), name, tensor, original)


def _difference(layer: LayerEntry, name: str, tensor: Tensor, original: TensorFile) -> Difference:
    from bhk.codec.difference import compare

    reference = original.tensor(name)
    if reference.shape != tensor.shape or reference.dtype != tensor.dtype:
        raise _not_the_original(
            original,
            f"tensor {name!r} is {tensor.dtype} {list(tensor.shape)} in the file, but "
            f"{reference.dtype} {list(reference.shape)} in {original.label}",
        )
    difference = compare(reference, tensor)
    if layer.error is None:
        if not difference.equal:
            raise _not_the_original(original, f"tensor {name!r} is stored exactly, but differs from {original.label}")
        return difference
    largest, snr = layer.error.max_abs, layer.error.snr_db
    if not difference.max_abs <= largest * (1 + ERROR_TOLERANCE):
        found, written = f"a largest error of {difference.max_abs:.3g}", f"{largest:.3g}"
    elif snr is not None and not difference.snr_db > snr - SNR_TOLERANCE_DB:
        found, written = f"a signal-to-noise ratio of {difference.snr_db:.2f} dB", f"{snr:.2f} dB"
    else:
        return difference
    raise _not_the_original(
        original, f"tensor {name!r} has {found} against {original.label}, but the file says {written}"
    )


def _not_the_original(original: TensorFile, reason: str) -> VerificationError:
    return VerificationError(f"{original.label} is not the original that the file was converted from: {reason}")
