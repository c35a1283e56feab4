from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bhk.pictures.folder import NoPicturesError
from bhk.pictures.prompted import OBJECTS, dead_leaves, from_folder, scene_prompts, synthetic, white_noise
from bhk.pictures.prompts import fit_inside
from bhk.pictures.scenes import SMALLEST_AREA


@pytest.mark.parametrize("size", [32, 131, 256])
def test_every_scene_has_objects_that_are_large_enough(size: int) -> None:
    for seed in range(20):
        scene = dead_leaves(seed, size)
        assert (scene.picture.shape, scene.picture.dtype) == ((size, size, 3), np.uint8)
        assert scene.masks.shape[1:] == (size, size)
        assert scene.masks.sum(axis=0).max() == 1
        areas = scene.masks.sum(axis=(1, 2))
        assert (np.diff(areas) <= 0).all()
        assert areas.min() >= SMALLEST_AREA * size * size


def test_an_object_has_one_colour() -> None:
    scene = dead_leaves(0, 128)
    for mask in scene.masks:
        assert scene.picture[mask].std(axis=0).max() < 6


def test_a_picture_depends_only_on_its_seed() -> None:
    digest = hashlib.sha256(dead_leaves(3, 128).picture.tobytes()).hexdigest()
    assert digest.startswith("a8a436a143416521")
    assert not np.array_equal(dead_leaves(4, 128).picture, dead_leaves(3, 128).picture)


def test_white_noise_has_the_objects_of_dead_leaves() -> None:
    noise, leaves = white_noise(5, 64), dead_leaves(5, 64)
    assert np.array_equal(noise.masks, leaves.masks)
    assert noise.picture.std() == pytest.approx(73.9, abs=1)  # of 0 ... 255, all as likely


def test_prompts_are_boxes_around_objects_and_points_on_them() -> None:
    scene = dead_leaves(7, 128)
    prompts = scene_prompts(scene)
    assert len(prompts) == 2 * min(OBJECTS, len(scene.masks))
    assert fit_inside(prompts, 128, 128) == (tuple(prompts), ())
    for mask, box, point in zip(scene.masks, prompts[::2], prompts[1::2], strict=False):
        assert box.box is not None
        x0, y0, x1, y1 = map(int, box.box)
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        ((x, y),) = point.points
        assert mask[int(y), int(x)]


@pytest.mark.parametrize("kind", ["dead-leaves", "noise"])
def test_the_first_pictures_are_the_same_for_any_count(kind: str) -> None:
    few, many = synthetic(kind, 2, 9, 32), synthetic(kind, 5, 9, 32)  # type: ignore[arg-type]
    assert (len(few), len(many)) == (2, 5)
    for (picture, prompts), (same, same_prompts) in zip(few, many, strict=False):
        assert np.array_equal(picture, same)
        assert prompts == same_prompts
    assert len({picture.tobytes() for picture, _ in many}) == 5


def _fill(folder: Path, count: int) -> None:
    for number in range(count):
        Image.fromarray(np.full((30, 60, 3), 10 * number, np.uint8)).save(folder / f"{number}.png")


def test_a_folder_gives_as_many_as_it_has(tmp_path: Path) -> None:
    _fill(tmp_path, 3)
    asked, unreadable = from_folder(tmp_path, 8, 0, 64)
    assert sorted(int(picture[0, 0, 0]) for picture, _ in asked) == [0, 10, 20]
    assert unreadable == ()


def test_a_larger_folder_gives_a_random_draw(tmp_path: Path) -> None:
    _fill(tmp_path, 12)
    drawn = [tuple(int(picture[0, 0, 0]) for picture, _ in from_folder(tmp_path, 4, seed, 64)[0]) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 4


def test_large_pictures_are_scaled_down_and_small_ones_are_not(tmp_path: Path) -> None:
    _fill(tmp_path, 1)
    for side, shape in ((64, (30, 60, 3)), (20, (10, 20, 3))):
        ((picture, prompts),), _ = from_folder(tmp_path, 1, 0, side)
        assert picture.shape == shape
        assert len(prompts) == 2 * OBJECTS
        assert fit_inside(prompts, shape[1], shape[0]) == (tuple(prompts), ())


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    _fill(tmp_path, 2)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    asked, (reason,) = from_folder(tmp_path, 8, 0, 64)
    assert len(asked) == 2
    assert "broken.jpg" in reason


def test_a_folder_of_broken_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(NoPicturesError, match=r"can be read: .*broken\.jpg"):
        from_folder(tmp_path, 8, 0, 64)


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(NoPicturesError, match="holds no pictures"):
        from_folder(tmp_path, 8, 0, 64)
