"""Frames of video files, in any order, and writing a video file. PyAV does the decoding and encoding."""

from __future__ import annotations

import bisect
import contextlib
import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bhk.base.files import WriteError
from bhk.base.limits import PIXELS
from bhk.base.packages import Package, import_package
from bhk.base.progress import Progress
from bhk.pictures.clip import USUAL_RATE, ClipError, check_size
from bhk.pictures.image import Rgb

PYAV = Package("av", "run: pip install av")
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}  # that bhk writes
_ENCODERS = ("libx264", "mpeg4")  # the first one that PyAV was built with is used
# A playlist called .mp4 would lead FFmpeg to other files and into the network. These formats hold their data themselves.
_ONLY_THIS_FILE = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,ogg",
}
_KEPT = 8  # decoded frames that are kept for steps back, because a decoder only goes forward


class VideoFile:
    """The frames of a video file. It is decoded once to find out how many there are, and when each is shown.

    Args:
        path: the file.
        progress: see `bhk.pictures.clip.open_clip`.

    Raises:
        ClipError: it cannot be read, or has no frames.
        MissingPackageError: PyAV is not installed.
    """

    names = None

    def __init__(self, path: Path, progress: Progress) -> None:
        self._av: Any = import_package([PYAV])
        self._path = path
        self._container: Any = None
        with contextlib.ExitStack() as failing:
            failing.callback(self.close)
            self._restart()
            self._times = self._scan(progress)
            self.rate = Fraction(self._stream.average_rate or USUAL_RATE)
            self._can_seek = None not in self._times and all(a < b for a, b in itertools.pairwise(self._times))
            self._restart()
            self._recent: dict[int, Rgb] = {}
            height, width, _ = self._decoded(0).shape
            self.size = height, width
            failing.pop_all()

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()

    def __len__(self) -> int:
        return len(self._times)

    def __getitem__(self, index: int) -> Rgb:
        return check_size(self._decoded(index), self.size, f"frame {index}")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (self._av.FFmpegError, OSError) as error:
            raise ClipError(f"cannot read {self._path}: {error.strerror or error}") from error

    def _restart(self) -> None:
        """Open the file, again if it is open, so that its first frame comes next."""
        self.close()
        if not self._path.is_file():  # opening a pipe would wait for its writer
            raise ClipError(f"cannot read {self._path}: not a regular file")
        with self._explained():
            self._container = self._av.open(str(self._path.absolute()), options=_ONLY_THIS_FILE)
            self._stream = self._container.streams.best("video")
            if self._stream is None:
                raise ClipError(f"{self._path} holds no video")
            self._check_pixels(self._stream.codec_context)
            self._stream.thread_type = "AUTO"  # decodes on all cores
            self._frames: Iterator[Any] = self._container.decode(self._stream)
        self._next = 0

    def _check_pixels(self, picture: Any) -> None:
        """Check the size of a frame, or of all that a stream tells of: frames may have sizes of their own."""
        pixels = picture.width * picture.height
        if pixels > PIXELS.value:
            raise ClipError(
                f"the frames of {self._path} have {pixels:,} pixels, more than {PIXELS.value:,}; {PIXELS.raised_to(pixels)}"
            )

    def _scan(self, progress: Progress) -> list[Any]:
        """Return when each frame is shown, in the unit of the stream; None where the file does not tell."""
        times = []
        with self._explained():
            for frame in self._frames:
                self._check_pixels(frame)
                times.append(frame.pts)
                progress("Reading frames", len(times), max(self._stream.frames, len(times) + 1))
        if not times:
            raise ClipError(f"{self._path} holds no frames")
        progress("Reading frames", len(times), len(times))
        return times

    def _decoded(self, index: int) -> Rgb:
        if index not in self._recent:
            self._recent.clear()
            if index < self._next:
                self._go_back(max(0, index - _KEPT + 1))
            while self._next <= index:
                self._step(keep=self._next > index - _KEPT)
        return self._recent[index]

    def _step(self, *, keep: bool) -> None:
        """Decode the next frame."""
        with self._explained():
            frame = next(self._frames, None)
            if frame is None:
                raise ClipError(f"frame {self._next} of {self._path} cannot be decoded a second time")
            if keep:
                # A phone held upright stores its frames lying, and the angle by which they are turned counterclockwise.
                turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                self._recent[self._next] = np.ascontiguousarray(turned)
        self._next += 1

    def _go_back(self, index: int) -> None:
        """Make a frame at or before `index` the next one: the closest from which the file can be decoded."""
        earlier = 0
        while self._can_seek and earlier < index:
            if self._seek(index - earlier, index):
                return
            earlier = max(_KEPT, 2 * earlier)
        self._restart()

    def _seek(self, index: int, last: int) -> bool:
        """Seek to frame `index`; return whether the next frame is now known, and not after `last`."""
        try:
            self._container.seek(self._times[index], stream=self._stream)
            frames = self._container.decode(self._stream)
            first = next(frames, None)
        except (self._av.FFmpegError, OSError):  # some formats cannot
            return False
        if first is None or first.pts is None:
            return False
        found = bisect.bisect_left(self._times, first.pts)
        if found > last or self._times[found] != first.pts:
            return False
        self._frames, self._next = itertools.chain([first], frames), found
        return True


def write_video(file: BinaryIO, suffix: str, frames: Iterable[Rgb], size: tuple[int, int], rate: Fraction) -> None:
    """Write frames to an open file.

    Args:
        file: open for writing and seeking.
        suffix: of `CONTAINERS`, which says what kind of file it is.
        frames: uint8 (height, width, 3) each.
        size: their (height, width). An odd one is made even by repeating the last row or column, as players need it.
        rate: frames a second.

    Raises:
        WriteError: the frames cannot be encoded.
        MissingPackageError: PyAV is not installed.
    """
    av: Any = import_package([PYAV])
    encoder = next(name for name in _ENCODERS if name in av.codecs_available)
    try:
        with av.open(file, "w", format=CONTAINERS[suffix]) as container:
            stream = container.add_stream(
                encoder, rate=rate.limit_denominator(1001)
            )  # mpeg4 takes no more than 16 bits
            stream.pix_fmt = "yuv420p"
            height, width = size
            stream.height, stream.width = height + height % 2, width + width % 2
            for picture in frames:
                even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
                container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            container.mux(stream.encode())
    except av.FFmpegError as error:
        raise WriteError(f"cannot encode the frames: {error}") from error
