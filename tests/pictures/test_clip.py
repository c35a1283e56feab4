from __future__ import annotations

import importlib.util
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bhk.base.packages import MissingPackageError
from bhk.pictures.clip import ClipError, check_frame, is_clip, open_clip
from pictures import clips

COUNT = 60  # several groups of frames that are decoded together


def _index(picture: np.ndarray) -> int:
    """Return the index of a frame that a codec may have changed a little."""
    return round((float(picture[:20].mean()) - 30) / 3)


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    folder = clips.write_folder(tmp_path / "clip", 12)
    (folder / "notes.txt").write_text("not a frame")
    (folder / ".0.png").write_bytes(b"hidden")
    with open_clip(folder) as clip:
        assert (len(clip), clip.size, clip.rate) == (12, (clips.HEIGHT, clips.WIDTH), Fraction(25))
        assert clip.names == tuple(f"{index}.png" for index in range(12))
        assert all(np.array_equal(clip[index], clips.frame(index)) for index in (3, 11, 0))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_video_file_gives_its_frames_in_any_order(tmp_path: Path, suffix: str) -> None:
    stages = []
    with open_clip(clips.write_file(tmp_path / f"clip{suffix}", COUNT), lambda *step: stages.append(step)) as clip:
        assert (len(clip), clip.size, clip.names) == (COUNT, (clips.HEIGHT + 1, clips.WIDTH), None)
        assert clip.rate == Fraction(30000, 1001)
        forward = [clip[index] for index in range(COUNT)]
        assert [_index(picture) for picture in forward] == list(range(COUNT))
        order = [*reversed(range(COUNT)), *np.random.default_rng(0).integers(0, COUNT, 30).tolist()]
        assert all(np.array_equal(clip[index], forward[index]) for index in order)
    assert stages[-1] == ("Reading frames", COUNT, COUNT)


def test_frames_are_found_where_a_file_cannot_seek(tmp_path: Path) -> None:
    with open_clip(clips.write_file(tmp_path / "clip.mp4", 30)) as clip:
        clip._can_seek = False  # type: ignore[attr-defined]
        assert [_index(clip[index]) for index in (29, 3, 17, 16)] == [29, 3, 17, 16]


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_frames_are_turned_upright(tmp_path: Path, degrees: int) -> None:
    import av

    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.set_display_rotation(degrees)
        picture = np.zeros((32, 64, 3), np.uint8)
        picture[:16, :32] = 255
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with open_clip(tmp_path / "clip.mp4") as clip:
        bright = {
            90: (slice(32, 64), slice(0, 16)),
            180: (slice(16, 32), slice(32, 64)),
            -90: (slice(0, 32), slice(16, 32)),
        }
        assert clip.size == ((32, 64) if degrees == 180 else (64, 32))
        assert clip[0][bright[degrees]].mean() > 240
        assert clip[0].mean() < 80


def test_what_is_a_clip(tmp_path: Path) -> None:
    assert is_clip(tmp_path)
    assert is_clip("a.MP4")
    assert not is_clip("a.gif")
    assert not is_clip(Image.new("RGB", (1, 1)))


def test_mistakes(tmp_path: Path) -> None:
    folder = clips.write_folder(tmp_path / "clip", 3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "noise.mp4").write_bytes(b"noise" * 99)
    os.mkfifo(tmp_path / "pipe.mp4")
    for path, message in [
        (tmp_path / "none.mp4", r"none\.mp4: no such file or folder"),
        (tmp_path / "pipe.mp4", r"pipe\.mp4: not a regular file"),
        (tmp_path / "empty", r"empty holds no frames; expected pictures with the suffixes \.jpg"),
        (tmp_path / "noise.mp4", r"cannot read .*noise\.mp4: Invalid data"),
    ]:
        with pytest.raises(ClipError, match=message), open_clip(path):
            pass
    with open_clip(folder) as clip:
        for frame in (-1, 3):
            with pytest.raises(ClipError, match=f"frame {frame} is outside the clip, whose frames are 0 to 2"):
                check_frame(clip, frame)
        (folder / "1.png").write_bytes(b"\x89PNG")
        with pytest.raises(ClipError, match=r"frame 1 is unreadable: .*1\.png"):
            clip[1]
        Image.new("RGB", (8, 9)).save(folder / "2.png")
        with pytest.raises(ClipError, match=r"frame 2 \(2\.png\) is 8 x 9 pixels, but the first is 140 x 91"):
            clip[2]


def test_a_file_that_ends_early_gives_the_frames_that_it_has(tmp_path: Path) -> None:
    path = clips.write_file(tmp_path / "clip.mkv", 30)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with open_clip(path) as clip:
        assert 0 < len(clip) < 30
        clip[len(clip) - 1]


def test_a_file_without_video(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(ClipError, match="holds no video"), open_clip(tmp_path / "sound.mp4"):
        pass


def test_a_video_file_needs_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clips.write_file(tmp_path / "clip.mp4", 1)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "av" else find(name, *rest))
    with (
        pytest.raises(MissingPackageError, match="needs the package av, which is not installed; run: pip install av"),
        open_clip(path),
    ):
        pass
