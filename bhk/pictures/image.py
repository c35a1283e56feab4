"""Reading pictures as models expect them: upright, RGB, 8 bits."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bhk.base.errors import BhkError
from bhk.base.files import PASSING, ReadError
from bhk.base.limits import PIXELS, SIDE
from bhk.base.memory import is_memory_error
from bhk.base.packages import Package, import_package

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_PILLOW = Package("PIL", "run: pip install pillow")

# Pillow reads more formats, but hands some, such as EPS, to other programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")  # of these formats

Rgb = NDArray[np.uint8]  # (height, width, 3)


class ImageError(BhkError):
    """A picture cannot be read."""


def read_image(source: str | os.PathLike[str] | Picture | NDArray[Any]) -> Rgb:
    """Return a picture as uint8 (height, width, 3), turned upright according to its EXIF data.

    Transparent pictures are put on white. Grey pictures of 16 or 32 bits are scaled from their own range (lowest to
    highest value) to 0 ... 255, because microscopes and scanners often use a small part of the full range. Animations
    give their first frame.

    Args:
        source: a JPEG, PNG, WebP, TIFF, BMP or GIF file, a Pillow image, or uint8 (height, width, 3).

    Raises:
        ImageError: the source is not a picture, is damaged or empty, or is larger than bhk's limits allow.
        ReadError: the system cannot read it now.
        MissingPackageError: Pillow is not installed.
    """
    if isinstance(source, np.ndarray):
        return _checked_array(source)
    import_package([_PILLOW])
    from PIL import Image

    if isinstance(source, Image.Image):
        with _image_errors("the image"):
            return _to_rgb(source)
    path = Path(source)
    if path.exists() and not (path.is_file() or path.is_dir()):  # opening a pipe would wait for its writer
        raise ImageError(f"cannot read {path}: not a regular file")
    with _image_errors(str(path)), path.open("rb") as file, _opened(file) as image:
        _check_size(image, str(path))
        return _to_rgb(image)


def decode_image(read: Callable[[], bytes], name: str) -> Rgb:
    """Return the picture in the bytes that `read` returns; see `read_image`, which raises the same errors.

    Args:
        read: returns the content of a picture file.
        name: its name in messages.
    """
    import_package([_PILLOW])
    with _image_errors(name), _opened(io.BytesIO(read())) as image:
        _check_size(image, name)
        return _to_rgb(image)


def _opened(file: BinaryIO) -> Picture:
    """Return a picture that is not decoded yet."""
    from PIL import Image

    if PIXELS.value > PIXELS.default:  # the user wants more than Pillow allows
        Image.MAX_IMAGE_PIXELS = PIXELS.value
    return Image.open(file, formats=_FORMATS)


def _check_size(image: Picture, name: str) -> None:
    """Check before a picture is decoded that it is not so large that it takes gigabytes.

    Raises:
        ImageError: it is.
    """
    for limit, found, unit in (
        (PIXELS, image.width * image.height, "pixels"),
        (SIDE, max(image.size), "pixels along a side"),
    ):
        if found > limit.value:
            raise ImageError(
                f"{name} has {image.width:,} x {image.height:,} pixels, more than {limit.value:,} {unit}; cut it into tiles, "
                f"or {limit.raised_to(found)}"
            )


def _checked_array(array: NDArray[Any]) -> Rgb:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        found = f"{array.dtype} of shape {array.shape}"
        raise ImageError(f"the image is {found}; expected uint8 of shape (height, width, 3), or a file")
    return np.ascontiguousarray(array)  # torch does not accept reversed arrays, such as BGR turned to RGB


@contextlib.contextmanager
def _image_errors(name: str) -> Iterator[None]:
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except (BhkError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is not a picture of a known format; expected JPEG, PNG, WebP, TIFF, BMP or GIF"
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; cut it into tiles, or set "
            f"{PIXELS.variable} to more"
        ) from None
    except OSError as error:
        if error.errno in PASSING:
            raise ReadError(f"cannot read {name}: {error.strerror}; try again") from error
        raise ImageError(f"cannot read {name}: {error.strerror or error}") from error
    except Exception as error:
        if is_memory_error(error):
            raise
        # for damaged files, decoders raise SyntaxError, ValueError, struct.error, ...
        raise ImageError(f"cannot read {name}: {error}; the file is damaged") from error


def _to_rgb(image: Picture) -> Rgb:
    from PIL import Image, ImageOps

    if not image.width or not image.height:
        raise ImageError(f"the picture is {image.width} x {image.height} pixels; expected at least one")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        return _scaled(np.asarray(upright, dtype=np.float64))
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
    return np.array(upright.convert("RGB"))


def _scaled(values: NDArray[np.float64]) -> Rgb:
    """Return a grey picture (height, width) as RGB, scaled from its range of finite values to 0 ... 255."""
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    scale = 255 / (high - low) if high > low else 0.0
    grey = np.nan_to_num((np.clip(values, low, high) - low) * scale).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
