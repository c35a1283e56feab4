from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hub.fake_hub import FakeHub
from PIL import Image

from bhk.evaluation.places import Damage, Place, find_places, places_digest
from bhk.hub.errors import HubError
from bhk.pictures.folder import NoPicturesError
from bhk.pictures.image import ImageError

_NAMES = tuple(f"{number:06d}.png" for number in range(4))


def _png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def _tar(path: Path, members: Mapping[str, bytes], format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of four pictures, with their annotations beside them as webdataset and SA-1B have them."""
    return _tar(
        tmp_path / "sa_000000.tar",
        {
            name: content
            for number, picture in enumerate(_NAMES)
            for name, content in ((picture, _png(number)), (picture.replace("png", "json"), b"{}"))
        },
    )


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_archives_are_read_in_place(tmp_path: Path, format: int) -> None:
    long = "folder/" * 12 + "é" * 20 + ".PNG"
    _tar(tmp_path / "b.tar", {long: _png(1), "./x.png": _png(2), "notes.txt": b"", ".hidden.png": _png(3)}, format)
    (tmp_path / "a.png").write_bytes(_png(4))
    found = find_places(tmp_path)
    assert [place.name for place in found.files] == ["a.png", f"b.tar/{long}", "b.tar/x.png"]
    assert [place.pixels()[0, 0, 0] for place in found.files] == [4, 1, 2]
    assert found.damaged == ()
    assert find_places(tmp_path / "b.tar").files == found.files[1:]
    assert places_digest(found.files) != places_digest(found.files[1:])
    assert found.files[0] == Place("a.png", str(tmp_path / "a.png"))


def test_the_members_behind_a_damaged_header_are_found(archive: Path) -> None:
    whole = find_places(archive)
    assert [place.name for place in whole.files] == [f"sa_000000.tar/{name}" for name in _NAMES]
    data = bytearray(archive.read_bytes())
    header = whole.files[1].offset - 512
    data[header + 100] ^= 0xFF  # its checksum no longer fits
    archive.write_bytes(data)
    found = find_places(archive)
    assert found.files == (whole.files[0], *whole.files[2:])
    (damage,) = found.damaged
    assert damage == Damage("sa_000000.tar", f"damaged between bytes {header:,} and {header + 1024:,}")


def test_an_archive_that_was_cut_off(archive: Path) -> None:
    whole = find_places(archive).files
    archive.write_bytes(archive.read_bytes()[: whole[3].offset + 10])
    found = find_places(archive)
    assert found.files == whole[:3]
    assert found.damaged == (Damage(f"sa_000000.tar/{_NAMES[3]}", "the archive ends before it does"),)
    archive.write_bytes(archive.read_bytes()[: whole[2].offset - 100])  # within a header
    assert [place.name for place in find_places(archive).files] == [place.name for place in whole[:2]]
    assert [damage.name for damage in find_places(archive).damaged] == ["sa_000000.tar"]


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    _tar(tmp_path / "a.tar", {"bad.jpg": b"no picture", "good.jpg": _png(1)})
    bad, good = find_places(tmp_path).files
    with pytest.raises(ImageError, match=r"^a\.tar/bad\.jpg is not a picture of a known format"):
        bad.pixels()
    assert np.array_equal(good.pixels()[0, 0], [1, 0, 0])


def test_archives_without_pictures_and_files_that_are_none(tmp_path: Path) -> None:
    _tar(tmp_path / "a.tar", {"notes.txt": b""})
    with pytest.raises(NoPicturesError, match=r"a\.tar holds no pictures; expected files with the suffixes \.jpg"):
        find_places(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(b"\x1f\x8b\x08" + bytes(range(256)) * 8)  # compressed
    with pytest.raises(NoPicturesError, match=r"holds no pictures; .*; a\.tar: damaged from byte 0 on"):
        find_places(tmp_path / "a.tar")
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(NoPicturesError, match=r"is a file; expected a folder of pictures, or a \.tar archive"):
        find_places(tmp_path / "a.zip")
    with pytest.raises(NoPicturesError, match="cannot read the folder"):
        find_places(tmp_path / "none.tar")


def test_archives_on_the_hub_are_read_by_ranges(archive: Path, tmp_path: Path, hub: FakeHub) -> None:
    here = find_places(archive)
    second = _tar(tmp_path / "big.tar", {"a.png": _png(7), "b.png": _png(8) + bytes(300_000), "c.png": _png(9)})
    files: dict[str, bytes | Path] = {
        "data/0.tar": archive,
        "data/1.tar": second,
        "other/2.tar": archive,
        "README.md": b"",
    }
    commit = hub.add("user/data", files)
    found = find_places("hf://datasets/user/data/data")
    assert [place.name for place in found.files] == [
        *(f"0.tar/{name}" for name in _NAMES),
        *(f"1.tar/{name}.png" for name in "abc"),
    ]
    assert {place.path for place in found.files} == {
        f"hf://datasets/user/data/data/{number}.tar@{commit}" for number in (0, 1)
    }
    before = len(hub.requests)
    assert [place.pixels()[0, 0, 0] for place in found.files] == [0, 1, 2, 3, 7, 8, 9]
    assert max(request.sent for request in hub.requests[before:]) < 400_000
    hub.add("user/data", {"data/0.tar": b"another"})
    assert found.files[0].read() == here.files[0].read()  # all of one commit
    only = find_places(f"https://huggingface.co/datasets/user/data/resolve/{commit}/other/2.tar")
    assert [place.name for place in only.files] == [f"2.tar/{name}" for name in _NAMES]
    with pytest.raises(NoPicturesError, match=r"hf://datasets/user/data/none holds no pictures"):
        find_places("hf://datasets/user/data/none")
    with pytest.raises(HubError, match="user/missing"):
        find_places("hf://datasets/user/missing")
