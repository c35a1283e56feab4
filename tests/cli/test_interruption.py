"""Commands that are interrupted while they work."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

import bhk as package
from bhk.pictures.scenes import make_scene
from cli.conftest import Ended, Shell

if os.name != "posix":
    pytest.skip("signals are POSIX's", allow_module_level=True)

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
ENDED = "error: interrupted\n"
WRITTEN = "error: interrupted; {} was written before\n"
NOT_WRITTEN = "error: interrupted; {} was not written, and nothing half-written is left\n"
_PICTURES = ("--images", "pictures")

# Commands that work for a second or more.
_LONG = (
    ("convert", "slow.pth", "-o", "new.bhk"),
    ("convert", "sam.pth", "-o", "new.bhk", "--calibrate", "pictures"),
    ("verify", "slow.bhk", "--against", "slow.pth"),
    ("export", "slow.bhk", "-o", "new.pth"),
    ("diff", "slow.pth", "slow.bhk"),
    ("segment", "sam.bhk", "pictures/0.png", "--everything", "-o", "new.png"),
    ("eval", "sam.bhk", "--against", "sam.pth", *_PICTURES, "--workers", "1", "--points", "200"),
    ("eval", "sam.bhk", "--against", "sam.pth", *_PICTURES, "--workers", "2", "--points", "200"),
    ("report", "sam.bhk", "--against", "sam.pth", *_PICTURES, "-o", "new.html"),
    ("compare", "sam.pth", *_PICTURES),
)


@pytest.fixture(scope="module")
def _models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of large tensors, the demo SAM, their .bhk files, and pictures."""
    folder = tmp_path_factory.mktemp("models")
    generator = torch.Generator().manual_seed(0)
    torch.save(
        {f"blocks.{i}.weight": torch.randn(1024, 1024, generator=generator) for i in range(24)}, folder / "slow.pth"
    )
    demo = Path(__file__).parents[2] / "examples" / "demo" / "demo_sam.safetensors"
    shutil.copy(demo, folder / "sam.safetensors")
    package.convert(demo, folder / "sam.bhk")
    package.export(folder / "sam.bhk", folder / "sam.pth")
    package.convert(folder / "slow.pth")
    (folder / "pictures").mkdir()
    for number in range(4):
        Image.fromarray(make_scene(number).picture).save(folder / "pictures" / f"{number}.png")
    return folder


@pytest.fixture
def shell(bhk: Shell, _models: Path) -> Shell:
    """Runs command lines beside links to these files, which are large; slow.bhk is a copy, because tests write to it."""
    shutil.copytree(_models, bhk.folder, dirs_exist_ok=True, copy_function=os.link)
    (bhk.folder / "slow.bhk").unlink()
    shutil.copy(_models / "slow.bhk", bhk.folder)
    return bhk


def _wait_until_it_answers(process: int) -> None:
    """Wait until the process handles SIGTERM, which `main` sets up first; before that, the signal ends it."""
    for _ in range(2000):
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except FileNotFoundError:
            return
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        if caught >> (signal.SIGTERM - 1) & 1 or "State:\tZ" in status:  # it answers, or has ended
            break
        time.sleep(0.005)
    time.sleep(0.02)


def _wait_until_it_writes(process: int, folder: Path) -> None:
    """Wait until the process has a file without a name open in the folder, which will be the one it writes."""
    for _ in range(4000):
        with contextlib.suppress(FileNotFoundError):
            for link in Path(f"/proc/{process}/fd").iterdir():
                target = os.readlink(link)
                if target.startswith(f"{folder}/") and target.endswith(" (deleted)"):
                    return
        time.sleep(0.005)
    raise AssertionError("the command wrote nothing")


def _interrupted(shell: Shell, args: tuple[str, ...], number: signal.Signals) -> tuple[Ended, float]:
    """Interrupt a command while it works; return how it ended, and the seconds that this took."""
    for seconds in (0.7, 0.4, 0.2, 0.1, 0.05):  # the machine may be fast
        process = shell.start(*args, "--force" if args[0] in ("convert", "export", "segment", "report") else "-q")
        _wait_until_it_answers(process)
        time.sleep(seconds)
        began = time.monotonic()
        shell.interrupt(process, number)
        ended = shell.wait()
        if ended.status:
            return ended, time.monotonic() - began
    raise AssertionError("the command was always done before it could be interrupted")


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
@pytest.mark.parametrize("args", _LONG, ids=" ".join)
def test_every_long_command_can_be_interrupted(shell: Shell, args: tuple[str, ...], number: signal.Signals) -> None:
    before = {path.name for path in shell.folder.iterdir()}
    ended, seconds = _interrupted(shell, args, number)
    assert (ended.status, ended.out) == (STATUS[number], "")
    out = next((arg for arg in args if arg.startswith("new.")), "")
    assert ended.err in (ENDED, NOT_WRITTEN.format(out) if out else ENDED)
    assert {path.name for path in shell.folder.iterdir()} <= before | {out}
    assert seconds < 6


def test_a_file_that_was_being_written_is_named(shell: Shell) -> None:
    if not hasattr(os, "O_TMPFILE") or not Path("/proc/self/fd").exists():
        pytest.skip("nothing tells when the file is being written")
    process = shell.start("convert", "slow.pth", "-o", "new.bhk", "--threads", "1")
    _wait_until_it_writes(process, shell.folder)
    shell.interrupt(process, signal.SIGINT)
    ended = shell.wait()
    assert ended.status == 130
    assert ended.err == NOT_WRITTEN.format("new.bhk")
    assert not (shell.folder / "new.bhk").exists()


def test_an_interruption_is_an_error_in_json(shell: Shell) -> None:
    ended, _ = _interrupted(shell, ("verify", "slow.bhk", "--threads", "1", "--json"), signal.SIGTERM)
    assert ended.status == 143
    assert json.loads(ended.out) == {"error": {"type": "Interrupted", "message": "interrupted"}}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interruption_at_any_moment_leaves_the_old_file_or_the_new(shell: Shell, number: signal.Signals) -> None:
    if number == signal.SIGKILL and not hasattr(os, "O_TMPFILE"):
        pytest.skip("only a file without a name goes away by itself")
    began = time.monotonic()
    assert shell("convert", "slow.pth", "-o", "new.bhk", "-q").status == 0
    whole, new = time.monotonic() - began, (shell.folder / "new.bhk").read_bytes()
    (shell.folder / "new.bhk").unlink()
    names = {path.name for path in shell.folder.iterdir()}
    stopped = 0
    for moment in range(8):
        (shell.folder / "slow.bhk").write_bytes(b"old")
        process = shell.start("convert", "slow.pth", "--force", "-q")
        _wait_until_it_answers(process)
        time.sleep(whole * moment / 9)
        shell.interrupt(process, number)
        ended = shell.wait()
        assert {path.name for path in shell.folder.iterdir()} == names
        if ended.status == 0:
            assert (shell.folder / "slow.bhk").read_bytes() == new
            continue
        stopped += 1
        assert (shell.folder / "slow.bhk").read_bytes() in (b"old", new)
        if number == signal.SIGKILL:
            assert (ended.status, ended.out, ended.err) == (-number, "", "")
        else:
            assert (ended.status, ended.out) == (STATUS[number], "")
            written = (shell.folder / "slow.bhk").read_bytes() == new
            assert ended.err in (ENDED, (WRITTEN if written else NOT_WRITTEN).format("slow.bhk"))
    assert stopped > 2


def test_a_signal_and_its_echo_are_one_interruption(shell: Shell) -> None:
    (shell.folder / "slow.bhk").write_bytes(b"old")
    process = shell.start("convert", "slow.pth", "--force", "-q", "--threads", 1)
    _wait_until_it_answers(process)
    time.sleep(0.3)
    shell.interrupt(process, signal.SIGINT)
    shell.interrupt(process, signal.SIGTERM)
    ended = shell.wait()
    assert (ended.status, ended.out) == (130, "")
    assert ended.err in (ENDED, NOT_WRITTEN.format("slow.bhk"))
    assert (shell.folder / "slow.bhk").read_bytes() == b"old"


_HANGING = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv.pop(1))
if hasattr(os, "O_TMPFILE"):
    del os.O_TMPFILE  # as on systems whose temporary files have names
from bhk.base.files import replace_file
from bhk.cli.app import app
from bhk.cli.main import main

@app.command("hang")
def hang() -> None:
    with replace_file(Path("out.bin")) as file:
        file.write(b"half")
        file.flush()
        print("working", flush=True)
        try:
            time.sleep(60)
        finally:
            time.sleep(60)

sys.argv.append("hang")
main()
"""


@pytest.mark.parametrize("second", [True, False], ids=["again", "patiently"])
def test_a_command_that_cannot_clean_up_ends_all_the_same(tmp_path: Path, second: bool) -> None:
    root = str(Path(package.__file__).parent.parent)
    with subprocess.Popen(
        [sys.executable, "-c", _HANGING, root],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        if second:
            time.sleep(0.8)
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        seconds = time.monotonic() - began
    assert (process.returncode, err) == (130, NOT_WRITTEN.format("out.bin"))
    assert list(tmp_path.iterdir()) == []
    assert seconds < (2.5 if second else 10)
