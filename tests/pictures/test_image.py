from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bhk.base.packages import MissingPackageError
from bhk.pictures.image import ImageError, read_image

_RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def _saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "options"), [("a.png", {}), ("a.bmp", {}), ("a.tif", {}), ("a.webp", {"lossless": True})]
)
def test_lossless_files(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    found = read_image(_saved(tmp_path / name, Image.fromarray(_RGB), **options))
    assert found.dtype == np.uint8
    assert np.array_equal(found, _RGB)


def test_a_jpeg_is_about_the_same(tmp_path: Path) -> None:
    smooth = np.zeros((16, 24, 3), dtype=np.uint8) + np.arange(24, dtype=np.uint8)[:, None] * 8
    found = read_image(_saved(tmp_path / "a.jpg", Image.fromarray(smooth), quality=95))
    assert np.abs(found.astype(int) - smooth).max() < 10


def test_cmyk(tmp_path: Path) -> None:
    found = read_image(_saved(tmp_path / "a.tif", Image.new("CMYK", (3, 2), (0, 255, 255, 0))))
    assert np.array_equal(found, np.broadcast_to(np.array([255, 0, 0], dtype=np.uint8), (2, 3, 3)))


def test_pillow_images_and_arrays_are_accepted() -> None:
    assert np.array_equal(read_image(Image.fromarray(_RGB)), _RGB)
    assert read_image(_RGB) is _RGB


def test_a_reversed_array_becomes_contiguous() -> None:
    found = read_image(_RGB[:, ::-1, ::-1])
    assert found.flags.c_contiguous
    assert np.array_equal(found, _RGB[:, ::-1, ::-1])


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "1", "I;16B"])
def test_other_formats(mode: str) -> None:
    image = Image.new(mode, (3, 2)) if mode in ("LAB", "I;16B") else Image.new("RGB", (3, 2), "white").convert(mode)
    assert read_image(image).shape == (2, 3, 3)


def test_deep_grey_is_turned_upright_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    deep = Image.fromarray(np.array([[0, 1000], [2000, 4000]], dtype=np.uint16))
    assert read_image(_saved(tmp_path / "a.png", deep, exif=exif))[..., 0].tolist() == [[255, 128], [64, 0]]


def test_exif_turns_a_picture_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    found = read_image(_saved(tmp_path / "a.png", Image.fromarray(_RGB), exif=exif))
    assert np.array_equal(found, np.rot90(_RGB, -1))


def test_grey_and_black_and_white(tmp_path: Path) -> None:
    grey = _RGB[..., 0]
    assert np.array_equal(read_image(_saved(tmp_path / "g.png", Image.fromarray(grey))), grey[..., None].repeat(3, 2))
    bits = Image.fromarray(grey > 127)
    assert set(np.unique(read_image(_saved(tmp_path / "b.png", bits))).tolist()) == {0, 255}


def test_a_palette(tmp_path: Path) -> None:
    image = Image.fromarray(_RGB).quantize(4)
    assert np.array_equal(read_image(_saved(tmp_path / "a.png", image)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pictures_are_put_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 2), (10, 10, 10, 0))
    image.paste((200, 200, 200, 255), (0, 0, 2, 2))
    options = {"transparency": 0} if mode == "P" else {}
    if mode == "P":
        image = Image.fromarray(np.array([[1, 1, 0, 0]] * 2, dtype=np.uint8), "P")
        image.putpalette([10, 10, 10, 200, 200, 200])
    found = read_image(_saved(tmp_path / "a.png", image.convert(mode), **options))
    assert found[:, :, 0].tolist() == [[200, 200, 255, 255]] * 2


def test_half_transparent_is_half_white() -> None:
    assert read_image(Image.new("RGBA", (1, 1), (0, 100, 255, 128))).tolist() == [[[127, 177, 255]]]


@pytest.mark.parametrize(("dtype", "name"), [(np.uint16, "a.png"), (np.uint16, "a.tif"), (np.int32, "a.tif")])
def test_deep_grey_is_scaled_by_its_range(tmp_path: Path, dtype: type, name: str) -> None:
    twelve_bits = np.array([[100, 1100], [2100, 4100]], dtype=dtype)
    found = read_image(_saved(tmp_path / name, Image.fromarray(twelve_bits)))
    assert found[..., 0].tolist() == [[0, 64], [128, 255]]
    assert np.array_equal(found[..., 0], found[..., 2])


def test_floats_are_scaled_by_their_finite_range(tmp_path: Path) -> None:
    values = np.array([[-1.0, 0.0, 1.0], [np.nan, np.inf, -np.inf]], dtype=np.float32)
    found = read_image(_saved(tmp_path / "a.tif", Image.fromarray(values)))
    assert found[..., 0].tolist() == [[0, 128, 255], [0, 255, 0]]


def test_a_single_deep_grey_is_black() -> None:
    assert not read_image(Image.fromarray(np.full((2, 2), 4000, dtype=np.uint16))).any()


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    path = _saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert read_image(path).tolist() == [[[255, 0, 0]] * 3] * 2


def test_other_files_are_refused(tmp_path: Path) -> None:
    for content in (b"", b"no picture at all", b"\x89PNG\r\n\x1a\n"):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(ImageError, match=r"a\.png is not a picture of a known format; expected JPEG, PNG"):
            read_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp", "a.tif", "a.gif"])
def test_a_file_cut_off_anywhere_is_one_error(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = _saved(tmp_path / name, Image.fromarray(noise)).read_bytes()
    for length in range(0, len(whole) // 2, max(1, len(whole) // 40)):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(ImageError, match=name):
            read_image(tmp_path / name)


def test_a_truncated_png_says_so(tmp_path: Path) -> None:
    whole = _saved(tmp_path / "a.png", Image.fromarray(_RGB)).read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:-40])
    with pytest.raises(ImageError, match=r"^cannot read .*a\.png: .*truncated"):
        read_image(tmp_path / "a.png")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^cannot read .*none\.png: No such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match=r"^cannot read .*: Is a directory"):
        read_image(str(tmp_path))


def test_a_decompression_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _saved(tmp_path / "a.png", Image.new("1", (100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match=r"a\.png has more than 2,000 pixels; cut it into tiles"):
        read_image(path)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2), np.uint8),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((2, 2, 3), np.float32),
        np.zeros((0, 2, 3), np.uint8),
        np.zeros((1, 2, 2, 3), np.uint8),
    ],
)
def test_arrays_of_other_shapes_and_dtypes(array: Any) -> None:
    with pytest.raises(ImageError, match=r"expected uint8 of shape \(height, width, 3\)"):
        read_image(array)


def test_an_image_without_pixels() -> None:
    with pytest.raises(ImageError, match="0 x 3 pixels; expected at least one"):
        read_image(Image.new("RGB", (0, 3)))


def test_without_pillow_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(
        MissingPackageError, match="needs the package PIL, which is not installed; run: pip install pillow"
    ):
        read_image("a.png")
