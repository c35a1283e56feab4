"""An open .bhk file: `bhk.open`. It is read with numpy, and gives arrays without torch and tensors with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from bhk.base.errors import BhkError
from bhk.base.limits import check_expansion
from bhk.base.packages import explained_imports
from bhk.base.parallel import ordered_map, worker_count
from bhk.base.texts import size
from bhk.codec.elements import BIT_TYPES, widened
from bhk.codec.geometry import Decoder, Geometry
from bhk.codec.shape import Shape
from bhk.container.header import CodebookEntry, LayerEntry
from bhk.container.reader import Container
from bhk.file.codebooks import codebook_of
from bhk.file.stored import StoredLayer, StoredPart
from bhk.hub.download import local_file
from bhk.hub.ranges import open_container

if TYPE_CHECKING:
    from torch import Tensor

    from bhk.codec.codebook import Codebook, Codes

Array: TypeAlias = npt.NDArray[Any]
Decoded = TypeVar("Decoded")

_STEP = 1 << 16  # pairs that are decoded at a time, at least


class UnknownTensorError(BhkError):
    """A file holds no tensor of that name, or not those rows of it."""


def open_file(path: str | os.PathLike[str], *, verify: bool = True) -> BhkFile:
    """Open a .bhk file. Tensors are read and decoded when you ask for them. Only `BhkFile`'s tensors need torch.

    >>> with bhk.open("demo_sam.bhk") as file:
    ...     len(file.names), file.tensor("mask_decoder.iou_token.weight").shape
    (230, torch.Size([1, 128]))

    Args:
        path: a file, a folder that holds one, or a place on the Hugging Face Hub, "hf://user/repo[/file.bhk][@revision]".
            From the Hub only the parts that you ask for are fetched, by range requests; without a network, the copy in the
            cache is read.
        verify: check the hash of each stream before decoding it. When you read slices of rows, each stream is checked once.

    Raises:
        HubError: the Hub did not deliver the file.
        ReadError: the system could not read the file.
        FormatError: the file breaks a rule of the format; the error names the rule.
    """
    return BhkFile(open_container(path), verify=verify)


def open_downloaded(path: str | os.PathLike[str], *, verify: bool = True) -> BhkFile:
    """Open a .bhk file that will be read whole. A file on the Hub is first downloaded into the cache.

    Args:
        path, verify: see `open_file`.

    Raises:
        HubError, ReadError, FormatError: see `open_file`.
    """
    return BhkFile(Container.open(local_file(path)), verify=verify)


def load_state_dict(
    path: str | os.PathLike[str], *, verify: bool = True, threads: int | None = None
) -> dict[str, Tensor]:
    """Decode a whole .bhk file into a state dict: names and tensors of the original shapes and dtypes, on the CPU.

    Names that were tied in the checkpoint share one tensor.

    >>> weights = bhk.load_state_dict("demo_sam.bhk")
    >>> weights["mask_decoder.iou_token.weight"].dtype
    torch.float16

    Args:
        path: a file, a folder that holds one, or a place on the Hugging Face Hub; the file is downloaded into the cache.
        verify: check the hash of each stream.
        threads: number of threads that decode; by default one per core.

    Raises:
        HubError, ReadError, FormatError: see `bhk.open`.
    """
    with open_downloaded(path, verify=verify) as file:
        return file.state_dict(threads=threads)


def load_arrays(path: str | os.PathLike[str], *, verify: bool = True, threads: int | None = None) -> dict[str, Array]:
    """Decode a whole .bhk file into names and numpy arrays of the original shapes. Needs no torch.

    The arrays have the original dtypes, except that bfloat16 and the two float8 dtypes, which numpy lacks, come as float32,
    with equal values. Names that were tied in the checkpoint share one array.

    >>> weights = bhk.load_arrays("demo_sam.bhk")
    >>> weights["mask_decoder.iou_token.weight"].dtype
    dtype('float16')

    Args:
        path, verify, threads: see `load_state_dict`.

    Raises:
        HubError, ReadError, FormatError: see `bhk.open`.
    """
    with open_downloaded(path, verify=verify) as file:
        return dict(file.arrays(threads=threads))


class BhkFile:
    """An open .bhk file, which reads and decodes tensors on demand. `bhk.open` makes one; it is a context manager.

    Any number of threads may use it at once. `array` and `arrays` need no torch.

    >>> file = bhk.open("demo_sam.bhk")
    >>> file.layer("image_encoder.blocks.0.attn.proj.weight").encoding
    'trajectory'
    >>> file.tensor("image_encoder.blocks.0.attn.proj.weight", slice(0, 2)).shape
    torch.Size([2, 192])
    >>> file.close()

    Attributes:
        container: the header and the stored bytes.
    """

    def __init__(self, container: Container, *, verify: bool = True) -> None:
        self.container = container
        self._verify = verify
        self._verified: set[int] = set()
        self._by_name = {name: layer for layer in container.layers for name in (layer.name, *layer.aliases)}

    @property
    def layers(self) -> tuple[LayerEntry, ...]:
        """The layer map: one entry for each tensor."""
        return self.container.layers

    @property
    def codebooks(self) -> tuple[CodebookEntry, ...]:
        """The codebooks that layers refer to."""
        return self.container.header.codebooks

    @property
    def metadata(self) -> dict[str, str]:
        """What the writer recorded about the source: string pairs."""
        return dict(self.container.header.metadata)

    @property
    def names(self) -> tuple[str, ...]:
        """All names of tensors, including aliases."""
        return tuple(self._by_name)

    def layer(self, name: str) -> LayerEntry:
        """Return the entry of the tensor with that name or alias.

        >>> with bhk.open("demo_sam.bhk") as file:
        ...     entry = file.layer("image_encoder.blocks.0.attn.proj.weight")
        >>> entry.shape, entry.dtype, entry.role
        ((192, 192), 'F16', 'linear')

        Raises:
            UnknownTensorError: the file holds no such tensor.
        """
        if name not in self._by_name:
            raise UnknownTensorError(f"{self.container.source.name} holds no tensor {name!r}; see `bhk inspect`")
        return self._by_name[name]

    def codebook(self, name: str) -> Codebook | None:
        """Return the codebook of tensor `name`, or None if the tensor is stored exactly.

        >>> with bhk.open("demo_sam.bhk") as file:
        ...     file.codebook("image_encoder.blocks.0.attn.proj.weight").windings
        64

        Raises:
            UnknownTensorError: the file holds no such tensor.
        """
        with explained_imports():
            from bhk.codec.codebook import Codebook
        index = self.layer(name).codebook
        return None if index is None else codebook_of(self.codebooks[index], Codebook)

    def codes(self, name: str) -> Tensor | None:
        """Return the scalar codes of tensor `name`, int32 (pairs,), or None if the tensor is stored exactly.

        >>> with bhk.open("demo_sam.bhk") as file:
        ...     file.codes("image_encoder.blocks.0.attn.proj.weight").shape
        torch.Size([18432])

        Raises:
            UnknownTensorError: the file holds no such tensor.
            StreamHashError, ChunkDataError, CodeRangeError: the streams are damaged (rules D2 to D4).
        """
        codebook, planes = self.codebook(name), self.planes(name)
        return None if codebook is None or planes is None else planes.scalars(codebook.windings)

    def planes(self, name: str) -> Codes | None:
        """Return the codes of tensor `name` as planes, uint8 (pairs,) each, or None if the tensor is stored exactly.

        >>> with bhk.open("demo_sam.bhk") as file:
        ...     file.planes("image_encoder.blocks.0.attn.proj.weight").winding.shape
        torch.Size([18432])

        Raises:
            UnknownTensorError: the file holds no such tensor.
            StreamHashError, ChunkDataError, CodeRangeError: the streams are damaged (rules D2 to D4).
        """
        with explained_imports():
            from bhk.file.tensors import codes_of
        layer, codebook = self.layer(name), self.codebook(name)
        if codebook is None:
            return None
        return codes_of(self._stored(layer, 0, layer.pairs.count).planes(codebook, 0, layer.pairs.count))

    def tensor(self, name: str, rows: slice | None = None) -> Tensor:
        """Decode tensor `name`, or only some of its rows, for which only the chunks that hold them are decoded.

        >>> with bhk.open("demo_sam.bhk") as file:
        ...     file.tensor("image_encoder.blocks.0.attn.proj.weight", slice(0, 2)).shape
        torch.Size([2, 192])

        Args:
            rows: a slice of the first dimension, without a step; None for all.

        Returns:
            a tensor of the original dtype, on the CPU.

        Raises:
            UnknownTensorError: the file holds no such tensor, or `rows` is not a range of its rows.
            StreamHashError, ChunkDataError, CodeRangeError: the streams are damaged (rules D2 to D4).
        """
        with explained_imports():
            from bhk.file.tensors import tensor_of
        return tensor_of(self._bits(name, rows), self.layer(name).dtype)

    def array(self, name: str, rows: slice | None = None) -> Array:
        """Decode tensor `name`, or only some of its rows, into a numpy array. Needs no torch.

        >>> with bhk.open("demo_sam.bhk") as file:
        ...     file.array("image_encoder.blocks.0.attn.proj.weight", slice(0, 2)).shape
        (2, 192)

        Args:
            rows: see `tensor`.

        Returns:
            an array of the original dtype; float32 for bfloat16 and the two float8 dtypes, which numpy lacks.

        Raises:
            UnknownTensorError, StreamHashError, ChunkDataError, CodeRangeError: see `tensor`.
        """
        return widened(self._bits(name, rows), self.layer(name).dtype)

    def state_dict(self, *, threads: int | None = None) -> dict[str, Tensor]:
        """Decode all tensors; see `bhk.load_state_dict`.

        >>> with bhk.open("demo_sam.bhk") as file:
        ...     len(file.state_dict())
        230
        """
        return dict(self.tensors(threads=threads))

    def tensors(self, *, threads: int | None = None) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, tensor) of every tensor, decoded on `threads` threads; aliases come right after their tensor.

        >>> with bhk.open("demo_sam.bhk") as file:
        ...     sum(tensor.numel() for _, tensor in file.tensors())
        3705344
        """
        with explained_imports():
            from bhk.file.tensors import tensor_of
        return self._named(lambda layer: tensor_of(self._decode(layer, layer.shape, 0), layer.dtype), threads)

    def arrays(self, *, threads: int | None = None) -> Iterator[tuple[str, Array]]:
        """Yield (name, array) of every tensor, like `tensors`, in the dtypes of `array`. Needs no torch.

        >>> with bhk.open("demo_sam.bhk") as file:
        ...     sum(array.size for _, array in file.arrays())
        3705344
        """
        return self._named(lambda layer: widened(self._decode(layer, layer.shape, 0), layer.dtype), threads)

    def check_size(self) -> None:
        """Check that the file does not stand for much more than its length, before all of it is decoded.

        >>> with bhk.open("demo_sam.bhk") as file:
        ...     file.check_size()

        Raises:
            TooLargeError: it does; the message names the largest tensor, and how to allow it.
        """
        total = sum(layer.dense_bytes for layer in self.layers)
        largest = max(self.layers, key=lambda layer: layer.dense_bytes, default=None)
        if largest is not None:
            named = f"the largest tensor is {largest.name!r} of {size(largest.dense_bytes)}"
            check_expansion(f"{self.container.source.name} ({named})", total, self.container.source.length)

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def __enter__(self) -> BhkFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _named(self, decode: Callable[[LayerEntry], Decoded], threads: int | None) -> Iterator[tuple[str, Decoded]]:
        """Yield every name with its layer, decoded by `decode`."""
        self.check_size()
        decoded = ordered_map(decode, self.layers, worker_count(threads))
        for layer, values in zip(self.layers, decoded, strict=True):
            for name in (layer.name, *layer.aliases):
                yield name, values

    def _bits(self, name: str, rows: slice | None) -> Array:
        """Decode a tensor, or some of its rows; see `_decode`."""
        layer = self.layer(name)
        if rows is None:
            return self._decode(layer, layer.shape, 0)
        if not layer.shape or rows.step not in (None, 1):
            raise UnknownTensorError(
                f"rows {rows} is not a range of rows of tensor {name!r}, which has shape {list(layer.shape)}"
            )
        start, stop, _ = rows.indices(layer.shape[0])
        return self._decode(layer, (max(stop - start, 0), *layer.shape[1:]), start)

    def _decode(self, layer: LayerEntry, shape: tuple[int, ...], start: int) -> Array:
        """Decode the part of `layer` that begins with row `start` and has shape `shape`: an array of its BIT_TYPES type."""
        part = Shape(shape, layer.pairs.pairing)
        first = start * (layer.numel // layer.shape[0]) if layer.numel and start else 0
        if layer.codebook is None or not part.numel:
            return self._exact(layer, first, part.numel).reshape(shape)
        geometry = codebook_of(self.codebooks[layer.codebook], Geometry)
        if part.pairing == "rows":
            first_pair = first // part.row * part.row_pairs
            return part.join_array(self._pairs(layer, geometry, first_pair, part.count))
        pairs = Shape(((first % 2) + part.numel,), "flat")
        weights = pairs.join_array(self._pairs(layer, geometry, first // 2, pairs.count))
        return weights[first % 2 :].reshape(shape)

    def _exact(self, layer: LayerEntry, first: int, count: int) -> Array:
        """Return `count` elements of an exact layer from element `first` on."""
        if not count:
            return np.empty(0, dtype=BIT_TYPES[layer.dtype])
        values = self._stored(layer, first, count).values(first, count)
        return values != 0 if layer.dtype == "BOOL" else values.view(BIT_TYPES[layer.dtype])

    def _pairs(self, layer: LayerEntry, geometry: Geometry, first: int, count: int) -> Array:
        """Return pairs `first` ... `first + count - 1` of a trajectory layer: (count, 2).

        They are decoded chunk by chunk, while the unpacked chunk is still in the cache.
        """
        stored = self._stored(layer, first, count)
        decoder = Decoder(geometry, layer.dtype, count, stored.window)
        pairs = np.empty((count, 2), dtype=BIT_TYPES[layer.dtype])
        start, stop = first, first + count
        # Smaller steps would unpack the large chunks of another stream several times, and take long for tiny chunks.
        chunk = max(stream.chunk for stream in layer.streams)
        step = chunk * max(_STEP // chunk, 1)
        while start < stop:
            end = min((start // step + 1) * step, stop)
            decoder.decode_into(stored.codes(geometry, start, end - start), pairs[start - first : end - first])
            start = end
        return pairs

    def _stored(self, layer: LayerEntry, first: int, count: int) -> StoredLayer:
        """Read the chunks that hold items `first` ... `first + count - 1` of every stream of `layer`.

        A stream that is read whole is verified each time; one that is read in parts, only the first time.

        Raises:
            TooLargeError: they are much larger than the file.
        """
        dense = layer.dense_bytes * count // max(layer.items, 1)
        check_expansion(f"tensor {layer.name!r} of {self.container.source.name}", dense, self.container.source.length)
        parts = []
        for stream in layer.streams:
            lengths = [decoded for _, decoded in stream.chunk_lengths(layer.item_bytes)]
            low, high = first // stream.chunk, (first + count - 1) // stream.chunk
            chunks: list[bytes] | list[memoryview]
            if high - low + 1 == len(lengths):
                chunks = self.container.read_stream(layer, stream, verify=self._verify)
            else:
                verify = self._verify and stream.offset not in self._verified
                chunks = self.container.read_chunks(layer, stream, low, high, verify=verify)
                self._verified.add(stream.offset)
            parts.append(StoredPart(stream, low, tuple(zip(chunks, lengths[low : high + 1], strict=True))))
        return StoredLayer(layer, tuple(parts))
