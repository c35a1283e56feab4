from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bhk.base.files import DestinationExistsError, WriteError
from bhk.pictures.clip import open_clip
from bhk.pictures.clip_overlay import check_overlay, write_overlay
from bhk.pictures.clip_prompts import ClipPrompt
from bhk.pictures.overlay import draw
from pictures import clips

PROMPTS = (ClipPrompt(((30, 40),), box=(20, 30, 60, 60), frame=2), ClipPrompt(((50, 40),), frame=1, object=1))


def _mask(index: int) -> np.ndarray:
    mask = np.zeros((1, clips.HEIGHT, clips.WIDTH), bool)
    mask[0, 30:60, 20 + index : 60 + index] = True
    return mask


def _asked(index: int) -> dict[int, ClipPrompt]:
    return {prompt.object: prompt for prompt in PROMPTS if prompt.frame == index}


def _write(folder: Path, out: Path, *, force: bool = False) -> list[tuple[str, int, int]]:
    steps: list[tuple[str, int, int]] = []
    with open_clip(folder) as clip:
        check_overlay(out, force=force, source=folder, frames=len(clip))
        write_overlay(out, clip, _mask, PROMPTS, force=force, progress=lambda *step: steps.append(step))
    return steps


def test_pictures_show_the_masks_and_the_prompts_of_their_frames(tmp_path: Path) -> None:
    folder, out = clips.write_folder(tmp_path / "clip", 3), tmp_path / "out"
    steps = _write(folder, out)
    assert steps == [("Drawing", 1, 3), ("Drawing", 2, 3), ("Drawing", 3, 3)]
    assert sorted(path.name for path in out.iterdir()) == ["00000.jpg", "00001.jpg", "00002.jpg"]
    for index in range(3):
        expected = np.asarray(draw(clips.frame(index), _mask(index), _asked(index)))
        found = np.asarray(Image.open(out / f"{index:05}.jpg"))
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).mean() < 4
    with pytest.raises(DestinationExistsError, match="out is not empty; use force=True to overwrite files in it"):
        _write(folder, out)
    _write(folder, out, force=True)


@pytest.mark.parametrize("name", ["out.mp4", "out.MOV", "out.mkv"])
def test_a_video_shows_the_masks(tmp_path: Path, name: str) -> None:
    folder, out = clips.write_folder(tmp_path / "clip", 5), tmp_path / name
    _write(folder, out)
    with open_clip(out) as clip:
        assert (len(clip), clip.size) == (5, (clips.HEIGHT + 1, clips.WIDTH))  # an even number of rows
        for index in range(5):
            expected = np.asarray(draw(clips.frame(index), _mask(index), _asked(index)))
            assert np.abs(clip[index][: clips.HEIGHT].astype(int) - expected).mean() < 12
    with pytest.raises(DestinationExistsError):
        _write(folder, out)


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    folder, out = clips.write_folder(tmp_path / "clip", 3), tmp_path / "out.mp4"
    out.write_bytes(b"mine")
    (folder / "2.png").write_bytes(b"")
    with pytest.raises(Exception, match="frame 2 is unreadable"):
        _write(folder, out, force=True)
    assert out.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "out.mp4"]


def test_mistakes_are_found_before_any_work(tmp_path: Path) -> None:
    folder = clips.write_folder(tmp_path / "clip", 1)
    (tmp_path / "file").write_bytes(b"")
    clips.write_folder(tmp_path / "longer", 0)
    for index in range(3):
        (tmp_path / "longer" / f"{index:05}.jpg").touch()
    for name, message in [
        ("out.avi", "cannot write a clip as .avi; use .mp4, .m4v, .mov, .mkv, or the name of a folder"),
        ("out.png", "cannot write a clip as .png"),
        ("none/out", "does not exist; create it first"),
        ("none/out.mp4", "does not exist; create it first"),
        ("file", "is a file; give the name of a folder"),
        ("clip", "holds the clip that is being read"),
        ("longer", "longer has frames of a longer clip, such as 00001.jpg; remove them first"),
    ]:
        with pytest.raises(WriteError, match=message):
            check_overlay(tmp_path / name, force=True, source=folder, frames=1)


def test_links_to_frames_do_not_lead_to_their_folder(tmp_path: Path) -> None:
    folder = clips.write_folder(tmp_path / "clip", 2)
    (tmp_path / "links").mkdir()
    for frame in folder.iterdir():
        (tmp_path / "links" / frame.name).symlink_to(frame)
    with pytest.raises(WriteError, match="clip holds the clip that is being read"):
        check_overlay(folder, force=True, source=tmp_path / "links", frames=2)
