"""A clip leads to no other file and not into the network (promise 3 of SECURITY.md)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bhk.pictures import video_file
from bhk.pictures.clip import ClipError, open_clip

pytest.importorskip("av", reason="needs PyAV")


def _video(path: Path) -> Path:
    from fractions import Fraction

    with path.open("w+b") as file:
        frames = [np.full((32, 48, 3), 40 * number, np.uint8) for number in range(3)]
        video_file.write_video(file, ".mp4", frames, (32, 48), Fraction(25))
    return path


def test_a_video_is_read(tmp_path: Path) -> None:
    with open_clip(_video(tmp_path / "a.mp4")) as clip:
        assert (len(clip), clip.size) == (3, (32, 48))


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi", "a.webm"])
@pytest.mark.parametrize("kind", ["playlist", "playlist of the network", "list"])
def test_a_list_of_other_files_is_no_video(tmp_path: Path, name: str, kind: str) -> None:
    other = _video(tmp_path / "other.mp4")
    address = {"playlist": other.as_uri(), "playlist of the network": "http://127.0.0.1:9/x.mp4", "list": ""}[kind]
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n"
    (tmp_path / name).write_text(playlist if address else f"ffconcat version 1.0\nfile {other.name}\n")
    with pytest.raises(ClipError, match="cannot read"), open_clip(tmp_path / name):
        pass


def test_frames_of_a_limited_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BHK_MAX_PIXELS", "1000")
    with pytest.raises(ClipError, match="have 1,536 pixels, more than 1,000"), open_clip(_video(tmp_path / "a.mp4")):
        pass


def test_a_pipe_is_no_clip(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(ClipError, match="not a regular file"), open_clip(tmp_path / "a.mp4"):
        pass
