"""The data of a report page, as one JSON value. The page's scripts compute everything else from it."""

from __future__ import annotations

import base64
import math
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bhk.base.hashes import sha256
from bhk.container.header import LayerEntry
from bhk.container.provenance import made_with, others
from bhk.file.bhkfile import BhkFile
from bhk.file.sizes import float32_bytes
from bhk.reports.layers import ERROR_REACH, Histogram, Pairs, Sketch
from bhk.sam.variants import title_of

if TYPE_CHECKING:
    from bhk.reports.masks import PictureMasks

Json: TypeAlias = Any

# A browser lays out this much in a second or two. Layers beyond are left out, the smallest first, and counted.
MOST_LAYERS = 2000
MOST_ALIASES = 20
LONGEST_TEXT = 10_000  # characters of an entry of the metadata

# Positions are 16-bit integers: 1/2048 of a step in the window (up to 16 steps), and 1/256 of the square's side for outliers
# (up to 127 sides, more than 15 shells reach).
_LINK_SCALE = 2048
_SIDE_SCALE = 256


@dataclass(frozen=True, eq=False)
class PageContent:
    """What a report page shows.

    Attributes:
        file: the open file.
        path: path of the file.
        sketches: one per layer, in the order of the layer map.
        original: name of the original checkpoint; None without it.
        pictures: masks of the original and of the file; empty without pictures.
    """

    file: BhkFile
    path: Path
    sketches: tuple[Sketch | None, ...]
    original: str | None
    pictures: tuple[PictureMasks, ...]


def page_data(content: PageContent) -> Json:
    """Return the data as a JSON value without NaN and infinity."""
    layers = content.file.layers
    largest = set(sorted(range(len(layers)), key=lambda number: -layers[number].stored_bytes)[:MOST_LAYERS])
    rest = [layer for number, layer in enumerate(layers) if number not in largest]
    return {
        "file": _file(content),
        "original": content.original,
        "layers": [_layer(content.file, layers[number], content.sketches[number]) for number in sorted(largest)],
        "rest": {
            "tensors": len(rest),
            "coded": sum(layer.encoding != "exact" for layer in rest),
            "dense": sum(layer.dense_bytes for layer in rest),
            "weights": sum(layer.numel for layer in rest),
        },
        "pictures": [_picture(picture) for picture in content.pictures],
    }


def _file(content: PageContent) -> Json:
    file, header = content.file, content.file.container.header
    metadata = file.metadata
    against = ["--against", metadata["source.name"]] if "source.name" in metadata else []
    model = header.model
    return {
        "name": unicode_name(content.path.name),
        "bytes": file.container.source.length,
        "float32": float32_bytes(file.layers),
        "sha256": sha256([content.path]),
        "made_with": made_with(header),
        "checked": "When this page was made, the header and all streams matched the hashes in the file.",
        "model": None if model is None else title_of(model),
        "metadata": [(key, _shortened(value)) for key, value in others(metadata).items()],
        "verify": shlex.join(["bhk", "verify", unicode_name(content.path.name), *against]),
    }


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"


def unicode_name(name: str) -> str:
    """Return a file name as valid Unicode, which file names need not be."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _layer(file: BhkFile, layer: LayerEntry, sketch: Sketch | None) -> Json:
    codebook = file.codebook(layer.name)
    error = layer.error
    return {
        "name": layer.name,
        "aliases": layer.aliases[:MOST_ALIASES],
        "role": layer.role,
        "shape": layer.shape,
        "dtype": layer.dtype,
        "encoding": layer.encoding,
        "pairing": layer.pairing,
        "bytes": layer.stored_bytes,
        "dense": layer.dense_bytes,
        "weights": layer.numel,
        "error": None
        if error is None
        else {"mean": rounded(error.mean_abs), "max": rounded(error.max_abs), "snr": rounded(error.snr_db)},
        "codebook": None
        if codebook is None
        else {
            **{name: value for name, value in asdict(codebook).items() if name != "spacing"},
            "step": rounded(codebook.step),
            "scales": [rounded(scale) for scale in codebook.scales],
        },
        "streams": [[s.kind, s.codec, s.stored, s.decoded, s.sha256] for s in layer.streams],
        "sketch": None if sketch is None else _sketch(sketch),
    }


def _sketch(sketch: Sketch) -> Json:
    return {
        "sampled": sketch.sampled,
        "low": rounded(sketch.decoded.low),
        "width": rounded(sketch.decoded.width),
        "decoded": _counts(sketch.decoded),
        "original": _counts(sketch.original),
        "error": _counts(sketch.error),
        "reach": ERROR_REACH,
        "pairs": None if sketch.pairs is None else _pairs(sketch.pairs),
    }


def _pairs(pairs: Pairs) -> Json:
    density, window = pairs.density, pairs.window
    return {
        "grid": len(density),
        "most": int(density.max()),
        "density": packed(logarithmic(density)),
        "size": len(window),
        "corner": pairs.corner,
        "window": packed(window.astype("<u4")),
        "scales": [_LINK_SCALE, _SIDE_SCALE],
        "links": None if pairs.links is None else packed(_fixed(pairs.links, _LINK_SCALE)),
        "outliers": packed(_fixed(pairs.outliers, _SIDE_SCALE)),
        "outside": pairs.outside,
    }


def _picture(picture: PictureMasks) -> Json:
    return {
        "name": picture.name,
        "width": picture.width,
        "height": picture.height,
        "original": _data_uri(picture.original),
        "compressed": _data_uri(picture.compressed),
        "difference": _data_uri(picture.difference),
        "masks": [
            {
                "prompt": mask.prompt,
                "iou": rounded(mask.iou),
                "scores": [rounded(mask.score), rounded(mask.other_score)],
            }
            for mask in picture.masks
        ],
    }


def _data_uri(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _counts(histogram: Histogram | None) -> str | None:
    return None if histogram is None else packed(histogram.counts.astype("<u4"))


def logarithmic(counts: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Return counts on a logarithmic scale from 0 for none to 255 for the largest, uint8 of the same shape."""
    most = max(int(counts.max(initial=0)), 1)
    return np.rint(255 * np.log1p(counts) / math.log1p(most)).astype(np.uint8)


def _fixed(values: NDArray[np.float64], scale: int) -> NDArray[np.int16]:
    return np.rint(values * scale).clip(-(1 << 15), (1 << 15) - 1).astype("<i2")


def packed(values: NDArray[Any]) -> str:
    """Return the bytes of an array as base64."""
    return base64.b64encode(values.tobytes()).decode("ascii")


def rounded(value: float | None) -> float | None:
    """Return a number rounded to six significant digits; None if it is None or not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
