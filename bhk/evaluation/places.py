"""Where pictures and annotations are: files, and members of tar archives.

Archives are read in place, member by member, whatever their size. Their members are listed first, from the headers, which takes
two small reads for each. Source of the layout: POSIX.1-2001, "pax"; Python's `tarfile` reads the headers.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec

from bhk.base.files import FilePath, ReadError, reading
from bhk.hub.address import is_address, parse_data_address
from bhk.hub.download import list_files
from bhk.hub.ranges import RemoteFile, RemoteReader
from bhk.pictures.folder import NoPicturesError, find_files
from bhk.pictures.image import SUFFIXES, Rgb, decode_image, read_image

TAR = ".tar"
_AHEAD = 1 << 16  # bytes of an archive on the Hub that are read at once while its members are listed
_BLOCK = 512  # bytes; headers and members begin at multiples


@dataclass(frozen=True)
class Place:
    """A file, or a member of an archive.

    Attributes:
        name: its path within the folder that was given; for a member, that of the archive and its path within the archive.
        path: the file, or the archive; or the address of an archive on the Hub, with its commit.
        offset: where it begins, in bytes.
        length: its bytes; None for a whole file.
    """

    name: str
    path: str
    offset: int = 0
    length: int | None = None

    @property
    def described(self) -> str:
        """The name in messages: the path of the file, or the name of the member."""
        return self.path if self.length is None else self.name

    @property
    def size(self) -> int | None:
        """Its bytes; None if there is no such file, such as behind a broken link, which is reported on reading."""
        if self.length is not None:
            return self.length
        try:
            return os.stat(self.path).st_size
        except OSError:
            return None

    def check(self) -> None:
        """Check that what was listed is still there. Else results would lack it, on one machine of several.

        Raises:
            ReadError: it is not.
        """
        if not is_remote(self.path) and not os.path.lexists(self.path):
            raise ReadError(
                f"{self.path} is not on {platform.node()}, but was there when the files were listed; "
                "all machines need the same files under the same paths"
            )

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            OSError: the system cannot read them.
            HubError: the Hub does not provide them.
        """
        if is_address(self.path) and self.length is not None:
            return _remote(self.path).read(self.offset, self.length)
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read() if self.length is None else file.read(self.length)

    def pixels(self) -> Rgb:
        """Return the picture that is there, uint8 (height, width, 3).

        Raises:
            ImageError, ReadError, HubError: see `check`, `read` and `bhk.pictures.image.read_image`.
        """
        self.check()
        return read_image(self.path) if self.length is None else decode_image(self.read, self.name)


@dataclass(frozen=True)
class Damage:
    """A part of an archive that cannot be read, and is left out.

    Attributes:
        name: the archive, or the member.
        reason: what is wrong.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Places:
    """What was found.

    Attributes:
        files: the files and members, sorted by name.
        damaged: what cannot be read.
    """

    files: tuple[Place, ...]
    damaged: tuple[Damage, ...] = ()


@lru_cache(maxsize=4)
def _remote(address: str) -> RemoteFile:
    """Return an archive on the Hub, which this process may have asked for before."""
    return RemoteFile(parse_data_address(address))


def is_remote(source: FilePath) -> bool:
    """Return whether a source is an address on the Hub, and not a folder or a file."""
    return is_address(os.fsdecode(source))


def find_places(source: FilePath, suffixes: Sequence[str] = SUFFIXES) -> Places:
    """Return the files in a folder and its subfolders, and the members of the tar archives there, by their suffixes.

    Hidden ones, whose names begin with a dot, are left out.

    Args:
        source: a folder or a tar archive; or an address on the Hub, `hf://datasets/user/repo[/path][@revision]`, of an archive
            or of all archives in a repository or in a folder of it, which are read by ranges.
        suffixes: in small letters.

    Raises:
        NoPicturesError: there are none; the source cannot be read, or is another kind of file; or a name is not UTF-8.
    """
    folder = Path(source)
    if is_remote(source):
        found = joined(remote_members(os.fsdecode(source), suffixes))
    elif folder.is_file() and folder.suffix.lower() == TAR:
        found = members(folder, folder.name, suffixes)
    else:
        names = find_files(folder, (*suffixes, TAR))
        archives = [members(folder / name, name, suffixes) for name in names if name.lower().endswith(TAR)]
        loose = [Place(name, str(folder / name)) for name in names if not name.lower().endswith(TAR)]
        found = joined([Places(tuple(loose)), *archives])
    if not found.files:
        why = f"; {found.damaged[0].name}: {found.damaged[0].reason}" if found.damaged else ""
        raise NoPicturesError(
            f"{source} holds no pictures; expected files with the suffixes {', '.join(suffixes)}, or {TAR} archives with such "
            f"files{why}"
        )
    return found


def places_digest(places: Sequence[Place]) -> str:
    """Return a SHA-256 that changes when files or members change their names or sizes, or a repository its commit."""
    found = [(place.name, place.size, place.path if is_remote(place.path) else "") for place in places]
    return hashlib.sha256(msgspec.json.encode(found)).hexdigest()


def joined(parts: Sequence[Places]) -> Places:
    """Return what was found in several sources, sorted by name."""
    files = sorted((file for part in parts for file in part.files), key=lambda file: file.name)
    return Places(tuple(files), tuple(damage for part in parts for damage in part.damaged))


def members(path: Path, name: str, suffixes: Sequence[str]) -> Places:
    """Return the members of an archive that have one of the suffixes."""
    with reading(path), path.open("rb") as file:
        return _listed(file, os.fstat(file.fileno()).st_size, str(path), name, suffixes)


def remote_members(text: str, suffixes: Sequence[str]) -> Sequence[Places]:
    """Return the members of each archive at an address on the Hub, all of one commit.

    Raises:
        HubError: the Hub does not provide them.
    """
    address = parse_data_address(text)
    path = address.path or ""
    folder = f"{path}/" if path else ""
    if path.lower().endswith(TAR):
        folder, names = f"{path.rpartition('/')[0]}/".lstrip("/"), [path]
    else:
        names = [name for name in sorted(list_files(address)) if name.startswith(folder) and name.lower().endswith(TAR)]
    found = []
    for name in names:
        file = RemoteFile(address.at(name))
        address = replace(address, revision=file.commit)
        place = f"{address.at(name)}@{file.commit}"
        with io.BufferedReader(RemoteReader(file), _AHEAD) as reader:
            found.append(_listed(reader, file.length, place, name.removeprefix(folder), suffixes))
    return found


def _listed(file: BinaryIO, length: int, path: str, name: str, suffixes: Sequence[str]) -> Places:
    """Return the members of an open archive. Behind a damaged header, the next sound one is looked for."""
    files: list[Place] = []
    damaged: list[Damage] = []
    end = 0
    try:
        for member in _headers(file):
            if _is_filled(file, end, member.offset):
                damaged.append(Damage(name, f"damaged between bytes {end:,} and {member.offset:,}"))
            end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
            inner = PurePosixPath(member.name)
            if not member.isreg() or inner.name.startswith(".") or inner.suffix.lower() not in suffixes:
                continue
            inside = f"{name}/{inner}"
            if member.offset_data + member.size > length:
                damaged.append(Damage(inside, "the archive ends before it does"))
            elif inside.encode(errors="ignore").decode() != inside:
                damaged.append(Damage(ascii(inside), "its name is not UTF-8"))
            else:
                files.append(Place(inside, path, member.offset_data, member.size))
            if end > length:
                break
        if _is_filled(file, end, length):
            damaged.append(Damage(name, f"damaged from byte {end:,} on"))
    except tarfile.TarError as error:
        damaged.append(Damage(name, f"cannot be read beyond byte {end:,} ({error})"))
    return joined([Places(tuple(files), tuple(damaged))])


def _headers(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive, keeping none of them in memory; zeros between them do not end it."""
    with tarfile.open(fileobj=file, mode="r:", ignore_zeros=True) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]
            yield member


def _is_filled(file: BinaryIO, start: int, end: int) -> bool:
    """Return whether there is anything but zeros between two places of a file."""
    file.seek(start)
    left = end - start
    while left > 0 and (data := file.read(min(left, 1 << 20))):
        if data.strip(b"\0"):
            return True
        left -= len(data)
    return False
