from __future__ import annotations

import numpy as np
import pytest

from bhk.pictures.scenes import SMALLEST_AREA, make_scene


@pytest.mark.parametrize("size", [64, 128, 131])
def test_masks_are_the_visible_parts_of_objects(size: int) -> None:
    for seed in range(8):
        scene = make_scene(seed, size)
        assert scene.picture.shape == (size, size, 3)
        assert scene.picture.dtype == np.uint8
        assert scene.masks.shape[1:] == (size, size)
        assert scene.masks.sum(axis=0).max() <= 1
        areas = scene.masks.sum(axis=(1, 2))
        assert (np.diff(areas) <= 0).all()
        assert areas.min() >= SMALLEST_AREA * size * size


def test_a_scene_depends_only_on_its_seed() -> None:
    first, again, other = make_scene(3), make_scene(3), make_scene(4)
    assert np.array_equal(first.picture, again.picture)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.picture, other.picture)


def test_objects_differ_from_their_surroundings() -> None:
    contrasts = []
    for seed in range(40):
        scene = make_scene(seed)
        for mask in scene.masks:
            ring = np.zeros_like(mask)
            for axis, step in ((0, 3), (0, -3), (1, 3), (1, -3)):
                ring |= np.roll(mask, step, axis)
            inside, outside = scene.picture[mask].mean(axis=0), scene.picture[ring & ~mask].mean(axis=0)
            contrasts.append(np.abs(inside - outside).max())
    assert np.median(contrasts) > 25  # of 255


def test_the_spectrum_falls_like_that_of_natural_pictures() -> None:
    """The power spectrum of natural pictures falls roughly as f^-2 (Field 1987)."""
    spectra = [np.abs(np.fft.fft2(make_scene(seed).picture.mean(axis=2))) ** 2 for seed in range(60)]
    power = np.mean(spectra, axis=0)
    radius = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None, :]) * 128
    bands = np.array([2, 4, 8, 16, 32])
    means = [power[(radius >= low) & (radius < 2 * low)].mean() for low in bands]
    slope = np.polyfit(np.log(bands), np.log(means), 1)[0]
    assert -3.2 < slope < -1.5
