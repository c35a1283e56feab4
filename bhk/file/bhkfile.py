"""An open .bhk file as tensors: `bhk.open`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType

import torch
from torch import Tensor

from bhk.base.errors import BhkError
from bhk.base.parallel import ordered_map, worker_count
from bhk.codec.codebook import Codebook, Codes
from bhk.codec.dtypes import TORCH_DTYPES
from bhk.codec.shape import Shape
from bhk.container.header import CodebookEntry, LayerEntry
from bhk.container.reader import Container
from bhk.file.codebooks import codebook_of
from bhk.file.stored import StoredLayer, StoredPart
from bhk.hub.download import local_file
from bhk.hub.ranges import open_container


class UnknownTensorError(BhkError):
    """A file holds no tensor of that name."""


def open_file(path: str | os.PathLike[str], *, verify: bool = True) -> BhkFile:
    """Open a .bhk file; its tensors are decoded when they are asked for.

    Args:
        path: a file, a folder with one, or one on the Hub, "hf://user/repo[/file.bhk][@revision]": of it only what is asked
            for is fetched, by range requests; without a network, its copy in the cache is read.
        verify: check the hash of each stream before it is decoded; for slices of rows, once a stream.

    Raises:
        HubError: the Hub did not give the file.
        ReadError: the system could not read it.
        FormatError: it breaks a rule of the format; the error names the rule.
    """
    return BhkFile(open_container(path), verify=verify)


def open_downloaded(path: str | os.PathLike[str], *, verify: bool = True) -> BhkFile:
    """Open a .bhk file that will be read whole: a file on the Hub is downloaded into the cache first.

    Args:
        path, verify: see `open_file`.

    Raises:
        HubError, ReadError, FormatError: see `open_file`.
    """
    return BhkFile(Container.open(local_file(path)), verify=verify)


def load_state_dict(
    path: str | os.PathLike[str], *, verify: bool = True, threads: int | None = None
) -> dict[str, Tensor]:
    """Decode a whole .bhk file: name -> tensor of the original shape and dtype, on the CPU. Tied names share a tensor.

    Args:
        path: a file, or one on the Hugging Face Hub, which is downloaded into the cache.

    Raises:
        HubError, ReadError, FormatError: see `open_file`.
    """
    with open_downloaded(path, verify=verify) as file:
        return file.state_dict(threads=threads)


class BhkFile:
    """A .bhk file, open and lazy; a context manager. Made by `bhk.open`.

    Attributes:
        container: the file as bytes and header.
    """

    def __init__(self, container: Container, *, verify: bool = True) -> None:
        self.container = container
        self._verify = verify
        self._verified: set[int] = set()
        self._by_name = {name: layer for layer in container.layers for name in (layer.name, *layer.aliases)}

    @property
    def layers(self) -> tuple[LayerEntry, ...]:
        """The layer map, one entry a tensor."""
        return self.container.layers

    @property
    def codebooks(self) -> tuple[CodebookEntry, ...]:
        """The codebooks that layers refer to."""
        return self.container.header.codebooks

    @property
    def metadata(self) -> dict[str, str]:
        """What the writer recorded of the source."""
        return dict(self.container.header.metadata)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of a tensor, aliases included."""
        return tuple(self._by_name)

    def layer(self, name: str) -> LayerEntry:
        """Return the layer called `name` (or aliased to it).

        Raises:
            UnknownTensorError: there is none.
        """
        if name not in self._by_name:
            raise UnknownTensorError(f"{self.container.source.name} holds no tensor {name!r}; see `bhk inspect`")
        return self._by_name[name]

    def codebook(self, name: str) -> Codebook | None:
        """Return the codebook of tensor `name`; None when it is kept exact."""
        index = self.layer(name).codebook
        return None if index is None else codebook_of(self.codebooks[index])

    def codes(self, name: str) -> Tensor | None:
        """Return the scalar codes of tensor `name`, int32 (pairs,); None when it is kept exact.

        Raises:
            StreamHashError, ChunkDataError, CodeRangeError: the streams are damaged (rules D2 to D4).
        """
        codebook, planes = self.codebook(name), self.planes(name)
        return None if codebook is None or planes is None else planes.scalars(codebook.windings)

    def planes(self, name: str) -> Codes | None:
        """Return the codes of tensor `name` as planes; None when it is kept exact.

        Raises:
            StreamHashError, ChunkDataError, CodeRangeError: the streams are damaged (rules D2 to D4).
        """
        layer = self.layer(name)
        codebook = self.codebook(name)
        if codebook is None:
            return None
        return self._stored(layer, 0, layer.pairs.count).codes(codebook, 0, layer.pairs.count)

    def tensor(self, name: str, rows: slice | None = None) -> Tensor:
        """Decode tensor `name`, or `rows` of its first dimension (a slice without step): only the chunks that hold them.

        Raises:
            UnknownTensorError: there is no such tensor.
            StreamHashError, ChunkDataError, CodeRangeError: the streams are damaged (rules D2 to D4).
        """
        layer = self.layer(name)
        if rows is None:
            return self._decode(layer, layer.shape, 0)
        if not layer.shape or rows.step not in (None, 1):
            raise UnknownTensorError(
                f"rows {rows} of tensor {name!r} of shape {list(layer.shape)}: not a range of rows"
            )
        start, stop, _ = rows.indices(layer.shape[0])
        return self._decode(layer, (max(stop - start, 0), *layer.shape[1:]), start)

    def state_dict(self, *, threads: int | None = None) -> dict[str, Tensor]:
        """Decode every tensor; see `load_state_dict`."""
        return dict(self.tensors(threads=threads))

    def tensors(self, *, threads: int | None = None) -> Iterator[tuple[str, Tensor]]:
        """Yield every (name, tensor), decoded on `threads` threads (as many as there are cores); aliases follow at once."""
        decoded = ordered_map(lambda layer: self._decode(layer, layer.shape, 0), self.layers, worker_count(threads))
        for layer, tensor in zip(self.layers, decoded, strict=True):
            for name in (layer.name, *layer.aliases):
                yield name, tensor

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def __enter__(self) -> BhkFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decode(self, layer: LayerEntry, shape: tuple[int, ...], start: int) -> Tensor:
        """Decode the part of `layer` of `shape` that begins with row `start`."""
        part = Shape(shape, layer.pairs.pairing)
        dtype = TORCH_DTYPES[layer.dtype]
        first = start * (layer.numel // layer.shape[0]) if layer.numel and start else 0
        if layer.codebook is None or not part.numel:
            return self._exact(layer, first, part.numel).view(dtype).reshape(shape)
        codebook = codebook_of(self.codebooks[layer.codebook])
        if part.pairing == "rows":
            first_pair = first // part.row * part.row_pairs
            return part.join(self._pairs(layer, codebook, first_pair, part.count, dtype))
        pairs = Shape(((first % 2) + part.numel,), "flat")
        weights = pairs.join(self._pairs(layer, codebook, first // 2, pairs.count, dtype))
        return weights[first % 2 :].reshape(shape)

    def _exact(self, layer: LayerEntry, first: int, count: int) -> Tensor:
        """Return `count` elements of an exact layer from element `first` on, as one row of bytes (bool: of bools)."""
        if not count:
            return torch.empty(0, dtype=torch.uint8)
        values = torch.from_numpy(self._stored(layer, first, count).values(first, count))
        return values != 0 if layer.dtype == "BOOL" else values

    def _pairs(self, layer: LayerEntry, codebook: Codebook, first: int, count: int, dtype: torch.dtype) -> Tensor:
        """Return pairs `first` ... `first + count - 1` of a trajectory layer: (count, 2).

        Chunk by chunk, so that what a chunk unpacks to is still in the cache when it is decoded.
        """
        stored = self._stored(layer, first, count)
        pairs = torch.empty(count, 2, dtype=dtype)
        start, stop = first, first + count
        # By smaller ones, the large chunks of another stream would be unpacked again and again.
        chunk = max(stream.chunk for stream in layer.streams)
        while start < stop:
            end = min((start // chunk + 1) * chunk, stop)
            codebook.decode_into(stored.codes(codebook, start, end - start), pairs[start - first : end - first])
            start = end
        return pairs

    def _stored(self, layer: LayerEntry, first: int, count: int) -> StoredLayer:
        """Read the chunks of every stream of `layer` that hold items `first` ... `first + count - 1`.

        A whole stream is verified whenever it is read; for a part of it, when it is first touched and not again.
        """
        parts = []
        for stream in layer.streams:
            lengths = [decoded for _, decoded in stream.chunk_lengths(layer.item_bytes)]
            low, high = first // stream.chunk, (first + count - 1) // stream.chunk
            whole = high - low + 1 == len(lengths)
            chunks: list[bytes] | list[memoryview]
            if whole or (self._verify and stream.offset not in self._verified):
                chunks = self.container.read_stream(layer, stream, verify=self._verify)[low : high + 1]
                self._verified.add(stream.offset)
            else:
                chunks = self.container.read_chunks(layer, stream, low, high)
            parts.append(StoredPart(stream, low, tuple(zip(chunks, lengths[low : high + 1], strict=True))))
        return StoredLayer(layer, tuple(parts))
