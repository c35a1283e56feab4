"""The content of the fake Hub: repositories, their commits and branches, and the contents of files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

LARGE_SUFFIXES = (".bhk", ".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".onnx", ".h5", ".zip")
LARGE_BYTES = 10_000_000


class RefusedError(Exception):
    """A refusal of the Hub: HTTP status, the code in X-Error-Code, and a message."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Blob:
    """The content of a file, in memory or on disk."""

    content: bytes | Path

    @cached_property
    def size(self) -> int:
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)

    @cached_property
    def sha256(self) -> str:
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        digest = hashlib.sha256()
        with self.content.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        if isinstance(self.content, bytes):
            return self.content[start:end]
        with self.content.open("rb") as file:
            file.seek(start)
            return file.read(-1 if end is None else end - start)


@dataclass(frozen=True)
class HubFile:
    """A file at a commit. If it is `large`, it is stored in git LFS."""

    blob: Blob
    large: bool

    @cached_property
    def oid(self) -> str:
        """Git's hash of the content, or of the pointer to the blob."""
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.blob.sha256}\nsize {self.blob.size}\n"
        content = text.encode() if self.large else self.blob.read()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def etag(self) -> str:
        return self.blob.sha256 if self.large else self.oid


def is_large(name: str, size: int) -> bool:
    """Return whether the Hub stores a file in git LFS, which is impossible for an empty one."""
    return size > 0 and (name.endswith(LARGE_SUFFIXES) or size > LARGE_BYTES)


@dataclass(frozen=True)
class Commit:
    """The files of a repository at one point of its history."""

    oid: str
    parent: str | None
    title: str
    message: str
    files: dict[str, HubFile]


@dataclass(frozen=True)
class PullRequest:
    """A proposed commit; `refs/pr/{number}` points to it."""

    number: int
    title: str

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.number}"


@dataclass
class Repository:
    """A model repository. `refs` maps branches, tags and refs/pr/N to commits."""

    name: str
    private: bool = False
    gated: str | bool = False  # or whether access is granted to all who ask, "auto", or by hand, "manual"
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    pull_requests: list[PullRequest] = field(default_factory=list)

    def at(self, revision: str) -> Commit:
        """Return the commit of a branch, a tag, a pull request or a hash."""
        oid = self.refs.get(revision, revision)
        if oid not in self.commits:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[oid]

    def history(self, revision: str) -> list[Commit]:
        """Return the commits that led to `revision`, newest first."""
        commits = [self.at(revision)]
        while commits[-1].parent is not None:
            commits.append(self.commits[commits[-1].parent])
        return commits

    def commit(
        self, revision: str, files: dict[str, HubFile], *, parent: str | None, title: str, message: str = ""
    ) -> Commit:
        """Point `revision` to a new commit that holds exactly these files."""
        listing = "".join(f"{name} {file.oid}\n" for name, file in sorted(files.items()))
        oid = hashlib.sha1(f"{self.name}\n{parent}\n{title}\n{len(self.commits)}\n{listing}".encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, title, message, files)
        self.refs[revision] = oid
        return self.commits[oid]

    def propose(self, title: str) -> PullRequest:
        """Open a pull request; the caller commits to its ref."""
        self.pull_requests.append(PullRequest(len(self.pull_requests) + 1, title))
        return self.pull_requests[-1]
