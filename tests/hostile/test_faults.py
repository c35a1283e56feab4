"""Faults of the machine end in one line, and secrets are not shown (promises 9 and 10 of SECURITY.md)."""

from __future__ import annotations

import _thread
import errno
import json
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cli.conftest import Shell
from hub.fake_hub import FakeHub
from PIL import Image
from publishing.weights import weights

import bhk as package
from bhk.base import threads
from bhk.base.errors import option, shown
from bhk.base.files import ReadError, WriteError, replace_file
from bhk.base.memory import NOT_ENOUGH, is_memory_error
from bhk.base.parallel import ordered_map
from bhk.base.threads import ThreadStartError, Worker, receive
from bhk.base.workdir import WorkDir
from bhk.checkpoint import CheckpointError, read
from bhk.cli import session
from bhk.cli.main import main
from bhk.cli.messages import print_error
from bhk.engines.processes import _attempt
from bhk.hub.card_metadata import CardMetadataError, metadata_of
from bhk.hub.errors import HubError
from bhk.kernels import kept, tuning
from bhk.pictures.image import ImageError, read_image
from bhk.publishing.metadata import merged

_ROOT = Path(package.__file__).parent.parent
_TOKEN = "hf_" + "Ab1" * 11


def test_threads_that_do_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    start, left = _thread.start_new_thread, 2

    def few(*args: object) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError("can't start new thread")
        return start(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(_thread, "start_new_thread", few)
    assert list(ordered_map(lambda number: number + 1, range(20), 8)) == list(range(1, 21))  # with two threads
    with pytest.raises(ThreadStartError, match="the system starts no more threads"):
        list(ordered_map(lambda number: number, range(3), 1))


def test_a_thread_that_ends_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    start = _thread.start_new_thread
    monkeypatch.setattr(_thread, "start_new_thread", lambda *_: start(lambda: None, ()))
    monkeypatch.setattr(threads, "BEGINNING", 0.1)
    began = time.monotonic()
    with pytest.raises(MemoryError):
        list(ordered_map(lambda number: number, range(3), 2))
    worker = Worker(lambda: None)
    worker.join()
    assert time.monotonic() - began < 10


def test_values_of_threads() -> None:
    queue: SimpleQueue[int] = SimpleQueue()
    worker = Worker(lambda: queue.put(4))
    assert receive(queue, worker) == 4
    worker.join()
    assert not worker.is_alive
    waiting = threading.Event()
    busy = Worker(waiting.wait)
    assert busy.is_alive
    waiting.set()
    busy.join()


def _caused(cause: Exception) -> Exception:
    error = RuntimeError("it failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAlloc"),
        RuntimeError("unable to mmap 40 bytes from file <a>: Cannot allocate memory (12)"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("a.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        SystemError("error return without exception set"),
        _caused(MemoryError()),
    ],
)
def test_a_lack_of_memory_is_known_in_every_form(error: Exception) -> None:
    assert is_memory_error(error)
    assert not is_memory_error(RuntimeError("something else"))


def test_a_file_is_not_damaged_because_there_is_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pth")

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("unable to mmap 40 bytes from file: Cannot allocate memory (12)")

    monkeypatch.setattr(mmap, "mmap", full)
    with pytest.raises(RuntimeError, match="Cannot allocate"):
        read(tmp_path / "a.pth")


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
@pytest.mark.parametrize("megabytes", [1, 16, 60])
@pytest.mark.parametrize(
    "args",
    [
        ("convert", "a.pth", "-o", "out.bhk", "--threads", "4"),
        ("verify", "a.bhk", "--threads", "4"),
    ],
    ids=lambda args: args[0],
)
def test_without_memory_a_command_ends_in_one_line(bhk: Shell, args: tuple[str, ...], megabytes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    torch.save({f"{n}.weight": torch.randn(1000, 1000, generator=generator) for n in range(4)}, bhk.folder / "a.pth")
    package.convert(bhk.folder / "a.pth", bhk.folder / "a.bhk")
    bhk("models")  # the server that forks commands takes a while to start
    began = time.monotonic()
    ended = bhk(*args, memory=megabytes << 20)
    assert time.monotonic() - began < 60
    assert ended.status in (0, 1)
    if ended.status:
        assert ended.err.count("\n") == 1
        assert ended.err.startswith("error: ")
        assert sorted(path.name for path in bhk.folder.iterdir()) == ["a.bhk", "a.pth"]


@pytest.mark.parametrize("error", [MemoryError(), ImportError("a.so: failed to map segment from shared object")])
def test_without_memory_a_command_does_not_start(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "bhk.cli.session":
                raise error

    monkeypatch.delitem(sys.modules, "bhk.cli.session", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit, match="not enough memory to start; end other programs"):
        main()


@pytest.mark.parametrize(
    ("error", "told"),
    [(ValueError("x"), 1), (MemoryError(), 0), (OSError(errno.EMFILE, "Too many open files"), 0), (None, 1)],
)
def test_faults_in_finalizers_are_told_by_the_command(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, told: int
) -> None:
    found: list[object] = []
    monkeypatch.setattr(sys, "__unraisablehook__", found.append)
    session._tell_unraisable(SimpleNamespace(exc_value=error))  # type: ignore[arg-type]
    assert len(found) == told


def _without_memory(_: object) -> None:
    raise MemoryError


def test_without_memory_for_its_message_a_command_says_only_that(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "print_error", lambda *_: _without_memory(None))
    session._tell("ReadError", "cannot read a.pth")
    assert capfd.readouterr().err == f"error: {NOT_ENOUGH}\n"


def test_a_worker_without_memory_says_so() -> None:
    assert _attempt(_without_memory, 0) == (None, NOT_ENOUGH)


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_an_interruption_at_the_start_is_one_line_at_most(tmp_path: Path) -> None:
    start = "import bhk; print(flush=True); from bhk.cli.main import main; main()"
    code = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); {start}"
    for milliseconds in (0, 20, 60, 120, 200, 250):
        command = [sys.executable, "-c", code, "models"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.01 + milliseconds / 1000)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate()
        has_ended = process.returncode == 0 and milliseconds > 0  # before the signal came
        assert has_ended or process.returncode in (-signal.SIGINT, 130)
        assert told in ("", "error: interrupted\n")


_WRITING = """
import os, signal, sys
sys.path.insert(0, sys.argv.pop(1))
from pathlib import Path
from bhk.base import files
from bhk.cli.app import app
from bhk.cli import session
from bhk.cli.main import main

@app.command("write")
def write() -> None:
    sync = files._sync_folder
    files._sync_folder = lambda folder: (sync(folder), AFTER or os.kill(os.getpid(), signal.SIGINT))
    with files.replace_file(Path("out.bin")) as file:
        file.write(b"new")
    AFTER and os.kill(os.getpid(), signal.SIGINT)

AFTER = sys.argv.pop(1) == "after"
sys.argv.append("write")
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("when", ["within", "after"])
def test_an_interruption_says_what_was_written_before(tmp_path: Path, when: str) -> None:
    command = [sys.executable, "-c", _WRITING, str(_ROOT), when]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    there = (tmp_path / "out.bin").exists()
    told = "error: interrupted; out.bin was written before\n" if there else "error: interrupted\n"
    assert (ended.returncode, ended.stderr) == (130, told)


@pytest.mark.parametrize(
    "block",
    [
        "---\na: &a [*a]\n---\n",
        "---\na: &a\n  b: *a\n---\n",
        "---\n"
        + "a0: &a0 [x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
        + "---\n",
        "---\na: " + "[" * 5000 + "]" * 5000 + "\n---\n",
    ],
    ids=["recursive", "recursive mapping", "exploding", "deep"],
)
def test_a_card_of_others_ends_in_one_line(tmp_path: Path, block: str) -> None:
    from publishing.made_up import bhk_file

    from bhk.publishing.card import make_card
    from bhk.publishing.content import card_content

    content = card_content({"model.bhk": bhk_file(tmp_path / "a.bhk")}, "user/a")
    with pytest.raises(CardMetadataError, match=r"the card's metadata .*; correct README\.md first"):
        make_card(content, existing=block + "text\n")
    kept_block = "---\nmine: &t [a]\nmore: *t\n---\n"
    assert "more: *t" in merged(metadata_of(kept_block)[0], content, line_end="\n")


def test_a_work_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = WorkDir(tmp_path / "work")
    folder.claim({"a": "b"})

    def refused(*_: object) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(ReadError, match=r"cannot read .*fingerprint\.json: Permission denied"):
        folder.claim({"a": "b"})
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot make the folder"):
        WorkDir(tmp_path / "file").claim({})


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EIO, ReadError), (errno.EMFILE, ReadError), (errno.EACCES, ImageError), (errno.ELOOP, ImageError)],
)
def test_a_fault_that_passes_says_nothing_about_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(kind, match=f"cannot read .*{os.strerror(number)}"):
        read_image(tmp_path / "a.png")
    assert not issubclass(ReadError, ImageError)


def _picture(path: Path) -> bytes:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path)
    return path.read_bytes()


def test_no_output_replaces_a_picture_that_is_read(tmp_path: Path) -> None:
    demo = _ROOT / "examples" / "demo" / "demo_sam.safetensors"
    picture = tmp_path / "images" / "a.png"
    before = _picture(picture)
    converted = package.convert(demo, tmp_path / "a.bhk").path
    assert converted is not None
    for work in (
        lambda: package.compare(demo, images=picture.parent, plot=picture, force=True),
        lambda: package.report(converted, picture, against=demo, images=picture.parent, force=True),
        lambda: package.convert(demo, picture, calibration=package.Calibration(picture.parent), force=True),
        lambda: package.segment(demo, picture, points=[(3, 3)], out=picture, force=True),
    ):
        with pytest.raises(WriteError, match=r"a\.png is the file that is being read; give another name"):
            work()
        assert picture.read_bytes() == before


@pytest.mark.parametrize("name", ["tiles.csv", "products.csv"])
def test_a_pipe_in_the_cache_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept.folder().mkdir()
    os.mkfifo(kept.folder() / name)
    assert not list(tuning.read(kept.folder() / name))
    with pytest.raises(OSError, match="not a regular file"):
        tuning.write([], kept.folder() / name, "a")


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"cannot read .*a\.png: not a regular file"):
        read_image(tmp_path / "a.png")


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", none)
    assert not list(tuning.read(tuning.cache_path()))
    with pytest.raises(OSError, match=os.devnull):
        tuning.cache_path().parent.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("work", [package.convert, package.inspect, package.verify, package.load, package.open])
def test_an_empty_name_is_no_folder(work: Callable[[str], object]) -> None:
    with pytest.raises((CheckpointError, ReadError), match="the name of the file is empty"):
        work("")


@pytest.mark.parametrize(
    "address",
    [
        f"https://user:{_TOKEN}@huggingface.co/a/b",
        f"https://example.org/a.pth?token={_TOKEN}&x=1",
        f"hf://a/b/c.bhk@{_TOKEN}/",
        "https://me:secret-word@example.org/a.bhk",
    ],
)
@pytest.mark.parametrize(
    "command", ["inspect", "convert", "verify", "export", "pull", "push", "segment", "diff", "report"]
)
def test_secrets_in_addresses_are_masked(bhk: Shell, command: str, address: str) -> None:
    more = {"export": ["-o", "x.pth"], "push": ["a/b"], "segment": ["x.png", "--point", "1,1"], "diff": [address]}
    environment = {"HF_HUB_OFFLINE": "1", "HF_TOKEN": "", "HF_HOME": str(bhk.folder)}
    ended = bhk(command, address, *more.get(command, []), "--json", environment=environment)
    assert ended.status in (1, 2)
    assert _TOKEN not in ended.err + ended.out
    assert "secret-word" not in ended.err + ended.out


def test_messages_mask_secrets_and_keep_names(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("X", f"cannot read https://a:b@c.d/e?f=g {_TOKEN} and hf_demo.pth: {option('a')}")
    told = capsys.readouterr().err
    assert told.startswith("error: cannot read https://***@c.d/e?*** hf_*** and hf_demo.pth")


def test_reports_mask_secrets(hub: FakeHub) -> None:
    hub.add("user/sam", {"model.bhk": weights()})
    address = f"https://user:{_TOKEN}@huggingface.co/user/sam/blob/main/model.bhk?token=secret"
    page = "https://huggingface.co/user/sam/blob/main/model.bhk?token=secret"
    for report in (package.verify(page), package.inspect(page), package.diff(page, page)):
        assert "secret" not in str(report) + report.json()
    with pytest.raises(HubError) as caught:
        package.verify(address)
    assert _TOKEN not in str(caught.value)


def test_hundreds_of_thousands_of_entries_are_few_lines(bhk: Shell) -> None:
    torch.save({"model": {"a.weight": torch.ones(64, 64)}, **{f"x{n}": n for n in range(1000)}}, bhk.folder / "a.pth")
    ended = bhk("convert", "a.pth")
    assert ended.status == 0
    assert len(ended.err.splitlines()) < 60
    assert "and 950 more; --json lists all" in ended.err
    assert len(bhk("convert", "a.pth", "--force", "--json").document["left_out"]) == 1000


def test_a_report_of_many_layers_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bhk.reports import page_data

    monkeypatch.setattr(page_data, "MOST_LAYERS", 3)
    tensors = {
        f"blocks.{n}.weight": torch.randn(40, 40 + n, generator=torch.Generator().manual_seed(n)) for n in range(8)
    }
    torch.save(tensors, tmp_path / "a.pth")
    path = package.convert(tmp_path / "a.pth").path
    assert path is not None
    package.report(path, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text("utf-8")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert [layer["name"] for layer in data["layers"]] == [f"blocks.{n}.weight" for n in (5, 6, 7)]
    weights = sum(tensor.numel() for tensor in list(tensors.values())[:5])
    assert data["rest"] == {"tensors": 5, "coded": 5, "dense": 4 * weights, "weights": weights}


def test_a_figure_of_many_blocks_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    from bhk.reports import figures

    monkeypatch.setattr(figures, "MOST_BLOCKS", 2)
    blocks = {"a": {"linear": 3}, "b": {"conv": 9}, "c": {"linear": 1, "conv": 1}, "d": {"linear": 5}}
    assert figures._largest(blocks) == {"b": {"conv": 9}, "d": {"linear": 5}, "2 others": {"linear": 4, "conv": 1}}


def test_containers_are_shown_in_short() -> None:
    nested: object = ()
    for _ in range(60):
        nested = (nested, nested)
    assert len(shown(nested)) < 100
    assert shown(("a", 1)) == "('a', 1)"


def test_a_result_of_work_is_no_news_at_an_interruption(tmp_path: Path) -> None:
    from bhk.base.files import files_written

    with replace_file(tmp_path / "a") as file:
        file.write(b"a")
    assert files_written() == (tmp_path / "a",)
    WorkDir(tmp_path).write("b.json", 1)
    assert files_written() == ()
