"""Files are old or new (promise 8 of SECURITY.md)."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bhk.base.files import (
    DestinationExistsError,
    ReadError,
    WriteError,
    check_destination,
    copy_into,
    made_folder,
    replace_file,
    replace_files,
)

_linux = pytest.mark.skipif(sys.platform != "linux", reason="files without a name, /dev and limits are Linux's")
_posix = pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX's")


@pytest.fixture(params=["unnamed", "named"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of temporary file; the second is for systems that cannot create files without a name."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)


_both_ways = pytest.mark.usefixtures("_way")


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def _fill(path: Path, data: bytes = b"new") -> None:
    with replace_file(path) as file:
        file.write(data)


@_both_ways
@pytest.mark.parametrize("old", [None, b"the old and longer content"])
def test_new_content_replaces_the_old(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "a.bhk"
    if old is not None:
        path.write_bytes(old)
    with replace_file(path) as file:
        file.write(b"...second")
        file.flush()
        assert (path.read_bytes() if path.exists() else None) == old  # readers see nothing of it yet
        file.seek(0)
        assert file.read(3) == b"..."
        file.seek(0)
        file.write(b"1st")
    assert path.read_bytes() == b"1stsecond"
    assert list(tmp_path.iterdir()) == [path]


@_both_ways
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_interruption_changes_nothing(tmp_path: Path, old: bytes | None, error: type[BaseException]) -> None:
    path = tmp_path / "a.bhk"
    if old is not None:
        path.write_bytes(old)

    def write() -> None:
        with replace_file(path) as file:
            file.write(b"x" * 1_000_000)
            raise error("stop")

    with pytest.raises(error, match="stop"):
        write()
    assert [(left, left.read_bytes()) for left in tmp_path.iterdir()] == ([] if old is None else [(path, old)])


@_both_ways
def test_a_system_error_is_a_write_error(tmp_path: Path) -> None:
    path = tmp_path / "a.bhk"
    path.write_bytes(b"old")
    with pytest.raises(WriteError, match=r"a\.bhk: No space left on device; nothing was changed"), replace_file(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [left.read_bytes() for left in tmp_path.iterdir()] == [b"old"]


@_both_ways
def test_a_failure_at_the_last_step_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.bhk"
    with pytest.raises(WriteError, match="nothing was changed"), replace_file(path):
        (path / "a folder in its place").mkdir(parents=True)
    assert [left.name for left in tmp_path.iterdir()] == ["a.bhk"]


def _failing(monkeypatch: pytest.MonkeyPatch, name: str, at: int) -> None:
    """Let the call number `at` of a function of `os` fail."""
    function, calls = getattr(os, name), 0

    def failing(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return function(*args, **options)

    monkeypatch.setattr(os, name, failing)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@_both_ways
@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("name", ["open", "fsync", "link", "replace"])
def test_several_files_are_old_or_new_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, at: int
) -> None:
    old = {"a": b"old a", "c": b"old c"}
    for file, data in old.items():
        (tmp_path / file).write_bytes(data)
    wrong = None
    with monkeypatch.context() as patched:
        _failing(patched, name, at)
        try:
            with replace_files() as new:
                for file in "abc":
                    new.open(tmp_path / file).write(b"new " + file.encode())
        except WriteError as error:
            wrong = str(error)
    assert _contents(tmp_path) == ({file: b"new " + file.encode() for file in "abc"} if wrong is None else old)
    assert wrong is None or wrong.startswith(f"cannot write {tmp_path}")


@_both_ways
def test_an_interruption_between_two_files_brings_the_first_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in "ab":
        (tmp_path / file).write_bytes(b"old")
    replace = os.replace

    def interrupted(source: Path, target: Path) -> None:
        if target.name == "b":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)

    def write() -> None:
        with replace_files() as new:
            for file in "ab":
                new.open(tmp_path / file).write(b"new")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert _contents(tmp_path) == {"a": b"old", "b": b"old"}


@_both_ways
def test_files_of_others_are_not_taken_back(tmp_path: Path) -> None:
    def write() -> None:
        with replace_files(force=False) as new:
            for file in "ab":
                new.open(tmp_path / file).write(b"new")
            (tmp_path / "b").write_bytes(b"of another program")

    with pytest.raises(DestinationExistsError, match="b exists now"):
        write()
    assert _contents(tmp_path) == {"b": b"of another program"}


def test_an_old_copy_that_cannot_be_removed_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in "ab":
        (tmp_path / file).write_bytes(b"old")
    with monkeypatch.context() as patched:
        _failing(patched, "unlink", 1)
        with replace_files() as new:
            for file in "ab":
                new.open(tmp_path / file).write(b"new")
    assert {(tmp_path / file).read_bytes() for file in "ab"} == {b"new"}


@_linux
def test_a_new_file_gets_its_name_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "replace")
    _fill(tmp_path / "a")
    assert _contents(tmp_path) == {"a": b"new"}


def test_a_folder_is_removed_again_if_it_stays_empty(tmp_path: Path) -> None:
    def make(file: str) -> None:
        with made_folder(tmp_path / "new"):
            if file:
                (tmp_path / "new" / file).touch()
            raise ValueError(file)

    for file, left in (("", False), ("a", True)):
        with pytest.raises(ValueError):  # noqa: PT011
            make(file)
        assert (tmp_path / "new").is_dir() is left
    (tmp_path / "new" / "a").unlink()
    with pytest.raises(ValueError):  # noqa: PT011
        make("")
    assert (tmp_path / "new").is_dir()
    with pytest.raises(WriteError, match="cannot make the folder"), made_folder(tmp_path / "none" / "new"):
        pass


def test_what_cannot_be_read_is_not_a_fault_of_writing(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"cannot read .*missing"), replace_file(tmp_path / "new") as file:
        copy_into(tmp_path / "missing", file)
    assert not _contents(tmp_path)


_SCRIPT = """
import os, sys
from pathlib import Path
from bhk.base.files import WriteError, replace_file
path = Path(sys.argv[1])
{setup}
try:
    with replace_file(path) as file:
        file.write(b"x" * 3_000_000)
        file.flush()
        {inside}
except WriteError as error:
    print(error)
"""


def _start(path: Path, *, setup: str = "", inside: str = "pass") -> subprocess.Popen[str]:
    script = _SCRIPT.format(setup=setup, inside=inside)
    # The package is found in the working folder, from which this process imported it too, or where it is installed.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    )


@_linux
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_killed_process_leaves_nothing_behind(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "a.bhk"
    if old is not None:
        path.write_bytes(old)
    with _start(path, inside="print('written', flush=True); sys.stdin.read()") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert [(left, left.read_bytes()) for left in tmp_path.iterdir()] == ([] if old is None else [(path, old)])


@_linux
@pytest.mark.parametrize("way", ["pass", "del os.O_TMPFILE"])
def test_a_full_disk_is_a_write_error(tmp_path: Path, way: str) -> None:
    path = tmp_path / "a.bhk"
    path.write_bytes(b"old")
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)); {way}"
    with _start(path, setup=limit) as process:
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, f"cannot write {path}: File too large; nothing was changed\n")
    assert [left.read_bytes() for left in tmp_path.iterdir()] == [b"old"]


@_posix
@_both_ways
def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "a.bhk"
    _fill(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.umask(umask) == umask  # asking for it left it as it was


@_posix
@_both_ways
@pytest.mark.parametrize("mode", [0o600, 0o444, 0o664])
def test_a_file_keeps_the_permissions_of_the_one_it_replaces(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.bhk"
    path.write_bytes(b"old")
    path.chmod(mode)
    _fill(path)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@_posix
@_both_ways
def test_other_names_of_the_replaced_file_keep_the_old_content(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"old")
    (tmp_path / "hard").hardlink_to(old)
    (tmp_path / "soft").symlink_to("old")
    for name in ("hard", "soft"):
        _fill(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"new"
        assert not (tmp_path / name).is_symlink()
        assert old.read_bytes() == b"old"


@_both_ways
@pytest.mark.parametrize("name", ["x" * 255, "模" * 85, "\U0001f9ca" * 63, ".hidden", "a b\tc.bhk", "-"])
def test_any_name_the_system_allows_works(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    _fill(path)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@_both_ways
def test_two_writers_do_not_interfere(tmp_path: Path) -> None:
    path = tmp_path / "a.bhk"
    with replace_file(path) as first, replace_file(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"  # the outer block ended last
    assert list(tmp_path.iterdir()) == [path]


@_both_ways
@pytest.mark.parametrize("other", ["file", "link"])
def test_without_force_a_file_created_meanwhile_is_kept(tmp_path: Path, other: str) -> None:
    path = tmp_path / "a.bhk"

    def write() -> None:
        with replace_file(path, force=False) as file:
            file.write(b"new")
            if other == "file":
                path.write_bytes(b"other")
            else:
                path.symlink_to("nowhere")

    with pytest.raises(DestinationExistsError, match="exists now"):
        write()
    assert list(tmp_path.iterdir()) == [path]
    assert path.is_symlink() if other == "link" else path.read_bytes() == b"other"
    path.unlink()
    with replace_file(path, force=False) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@_both_ways
@pytest.mark.parametrize("name", ["missing/a.bhk", "file/a.bhk", "x" * 256])
def test_an_unwritable_place_is_a_write_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(WriteError, match="cannot write"):
        _fill(tmp_path / name)
    assert [(left.name, left.read_bytes()) for left in tmp_path.iterdir()] == [("file", b"old")]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the files `taken` and `source`, and links to a file, to the folder and to nothing."""
    (tmp_path / "taken").write_bytes(b"old")
    (tmp_path / "source").write_bytes(b"source")
    (tmp_path / "folder").mkdir()
    (tmp_path / "soft").symlink_to("source")
    (tmp_path / "hard").hardlink_to(tmp_path / "source")
    (tmp_path / "soft folder").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to("nothing")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "force"), [("new", False), ("new", True), ("taken", True), ("soft folder/new", False), ("dangling", True)]
)
def test_a_good_destination_passes_unchanged(place: Path, name: str, force: bool) -> None:
    before = sorted(place.iterdir())
    check_destination(place / name, force=force, sources=(place / "source", place / "missing source"))
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize("name", ["taken", "soft folder/taken", "dangling"])
def test_an_existing_file_needs_force(place: Path, name: str) -> None:
    with pytest.raises(DestinationExistsError, match="use force=True to overwrite it"):
        check_destination(place / name, force=False)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("source", "is the file that is being read"),
        ("soft", "is the file that is being read"),
        ("hard", "is the file that is being read"),
        ("soft folder/source", "is the file that is being read"),
        ("folder/../source", "is the file that is being read"),
        ("folder", "is a folder"),
        ("soft folder", "is a folder"),
        (".", "is a folder"),
        ("missing/new", "folder .*missing does not exist; create it first"),
        ("taken/new", "folder .*taken does not exist|cannot write"),
        ("x" * 256, "cannot write"),
    ],
)
def test_a_bad_destination_is_refused(place: Path, name: str, complaint: str, force: bool) -> None:
    with pytest.raises(WriteError, match=complaint) as caught:
        check_destination(place / name, force=force, sources=(place / "taken", place / "soft"))
    assert not isinstance(caught.value, DestinationExistsError)
    assert caught.value.args[0].count("\n") == 0


@_linux
@pytest.mark.parametrize("force", [False, True])
def test_a_device_or_pipe_is_never_replaced(tmp_path: Path, force: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/null"), tmp_path / "pipe"):
        with pytest.raises(WriteError, match="not a regular file"):
            check_destination(path, force=force)
