from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer

import bhk as package
from bhk.base.errors import BhkError, option
from bhk.cli.app import app
from bhk.cli.messages import as_option
from bhk.codec.streams import CHUNK_ITEMS, Stream, compress
from bhk.container.header import CodebookEntry, ErrorEntry, Header, LayerEntry
from bhk.container.writer import ContainerWriter
from cli.conftest import Shell

Python = Callable[..., list[str]]


def test_version_and_help(bhk: Shell) -> None:
    assert bhk().status == 2  # and shows the help
    assert bhk("--version").out == f"bhk {package.__version__}\n"
    for args in (["--help"], ["-h"]):
        ended = bhk(*args)
        assert (ended.status, ended.err) == (0, "")
        assert all(f" {command} " in ended.out for command in ("convert", "inspect", "verify", "export", "diff"))
    for command in ("convert", "inspect", "verify", "export", "diff"):
        assert "--json" in bhk(command, "-h").out


def _commands() -> list[tuple[str, Any]]:
    group = typer.main.get_command(app)
    return list(group.commands.items())  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "command"), _commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_help_ends_with_examples_that_can_be_typed(name: str, command: Any) -> None:
    title, *examples = command.epilog.split("\n\n")
    assert title in ("Example:", "Examples:")
    assert examples
    for example in examples:
        program, typed, *args = shlex.split(example)
        assert (program, typed) == ("bhk", name)
        command.make_context(name, args)  # parses the arguments, and runs nothing


def test_options_in_messages_exist() -> None:
    typed = {flag for _, command in _commands() for parameter in command.params for flag in parameter.opts}
    root = Path(package.__file__).parent
    calls = [call for path in root.rglob("*.py") for call in ast.walk(ast.parse(path.read_text("utf-8")))]
    named = {
        tuple(ast.literal_eval(argument) for argument in call.args)
        for call in calls
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", "") == "option"
        and isinstance(call.args[0], ast.Constant)
    }
    assert {("force", True), ("calibration",), ("work_dir",)} <= named
    shown = {BhkError(option(*arguments)).message(as_option).split()[0] for arguments in named}
    assert shown <= typed


def test_an_error_names_the_option_of_the_interface(bhk: Shell, source: Path) -> None:
    torch.save({"model": {"a": torch.zeros(3)}, "ema": {"a": torch.zeros(3)}}, source)
    expected = "sam.pth holds several sets of weights: {}; choose one with {}"
    found = "model (1 tensor), ema (1 tensor)"
    assert bhk.fails("convert", "sam.pth") == expected.format(found, "--key")
    with pytest.raises(package.errors.AmbiguousCheckpointError) as error:
        package.convert(source)
    assert str(error.value) == expected.format(found, "key").replace("sam.pth", str(source))


@pytest.mark.parametrize(
    "args",
    [
        ["compress"],
        ["--frobnicate"],
        ["convert"],
        ["convert", "a", "b"],
        ["convert", "a", "--nope"],
        ["convert", "a", "--snr", "loud"],
        ["convert", "a", "--threads", "0"],
        ["convert", "a", "--snr-for", "no-equals-sign"],
        ["convert", "a", "--snr-for", "a=loud"],
        ["convert", "a", "--metadata", "no-equals-sign"],
        ["inspect"],
        ["inspect", "a", "--by", "colour"],
        ["inspect", "a", "--sort", "colour"],
        ["inspect", "a", "--top", "0"],
        ["export", "a"],
        ["export", "a", "b.pth"],
        ["diff", "a"],
        ["verify", "a", "--threads", "many"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_an_explanation(bhk: Shell, args: list[str]) -> None:
    ended = bhk(*args)
    assert (ended.status, ended.out) == (2, "")
    assert "Usage: " in ended.err
    assert "Traceback" not in ended.err
    assert not list(bhk.folder.iterdir())


def test_wrong_usage_is_an_error_in_json(bhk: Shell) -> None:
    ended = bhk("inspect", "a", "--by", "layer", "--json")
    message = "invalid value for '--by': 'layer' is not one of 'role', 'block'; see bhk inspect --help"
    assert ended.status == 2
    assert json.loads(ended.out) == {"error": {"type": "UsageError", "message": message}}
    assert ended.err.splitlines()[0].startswith("Usage: bhk inspect ")
    assert ended.err.splitlines()[1:] == [f"error: {message}"]


def test_inspecting_imports_no_torch(converted: Path) -> None:
    root = str(Path(package.__file__).parent.parent)
    code = (
        f"import sys; sys.path.insert(0, {root!r}); sys.argv = ['bhk', 'inspect', {str(converted)!r}]\n"
        "from bhk.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "blocks.2.weight" in done.stdout
    assert "bhk.tasks.inspect" in done.stderr.split()
    assert not {"torch", "safetensors", "huggingface_hub"} & set(done.stderr.split())


@pytest.mark.parametrize("args", [["inspect", "sam.bhk"], ["inspect", "sam.bhk", "--json"], ["--version"], ["--help"]])
def test_a_closed_pipe_is_silent(python: Python, converted: Path, args: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(python(*args), cwd=converted.parent, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def _shell(command: list[str], redirection: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `command` with a redirection in shell syntax."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        cwd=folder,
        capture_output=True,
        encoding=environment.get("PYTHONIOENCODING", "utf-8"),
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("args", "redirection", "status", "err"),
    [
        (["inspect", "sam.bhk"], ">&-", 0, ""),
        (["inspect", "sam.bhk", "--json"], ">&-", 0, ""),
        (["inspect", "none.bhk"], ">&-", 1, "error: cannot read none.bhk: No such file or directory\n"),
        (["inspect", "none.bhk"], "2>&-", 1, ""),
        (["inspect", "sam.bhk"], ">/dev/full", 1, "error: output: No space left on device\n"),
        (["--version"], ">/dev/full", 1, "error: output: No space left on device\n"),
    ],
)
def test_closed_and_full_outputs(
    python: Python, converted: Path, args: list[str], redirection: str, status: int, err: str
) -> None:
    if "/dev/full" in redirection and not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    done = _shell(python(*args), redirection, converted.parent)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", err)


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_characters_that_the_encoding_lacks_are_escaped(python: Python, bhk: Shell, source: Path) -> None:
    torch.save({"вес.weight": torch.ones(40, 40)}, source)
    bhk("convert", source)
    for encoding in ("ascii", "latin-1"):
        done = _shell(python("inspect", "sam.bhk"), "", bhk.folder, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert (done.returncode, done.stderr) == (0, "")
        assert r"\u0432\u0435\u0441.weight" in done.stdout
        done = _shell(python("inspect", "sam.bhk", "--json"), "", bhk.folder, PYTHONIOENCODING=encoding)
        assert json.loads(done.stdout)["rows"][0]["name"] == "вес.weight"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_out_of_memory_is_one_line(bhk: Shell) -> None:
    pairs = 1 << 29  # a tensor of 4 GiB in a file of some kilobytes
    frame = compress(np.zeros(CHUNK_ITEMS, dtype=np.uint8))
    planes = [Stream(kind, "zstd", (frame,) * (pairs // CHUNK_ITEMS), pairs) for kind in ("winding", "phase")]
    with open(bhk.folder / "vast.bhk", "w+b") as file:
        writer = ContainerWriter(file, 1 << 16)
        layer = LayerEntry(
            "w", (2, pairs), "F32", "linear", "trajectory", "flat", 0, writer.write(planes), ErrorEntry(0, 0)
        )
        writer.finish(Header("test", (layer,), (CodebookEntry((0.0, 0.0), 1.0, 1),)))
    for command in (["verify", "vast.bhk"], ["export", "vast.bhk", "-o", "vast.pth"], ["diff", "vast.bhk", "vast.bhk"]):
        told = bhk.fails(*command, memory=1 << 30, environment={"BHK_MAX_UNPACKED": "8GB"})
        assert told == "not enough memory, or no more threads; end other programs, or use fewer threads"
    assert [path.name for path in bhk.folder.iterdir()] == ["vast.bhk"]


@pytest.mark.parametrize("command", ["convert", "inspect", "verify", "export", "diff", "segment", "report"])
def test_an_empty_argument_is_not_the_current_folder(bhk: Shell, command: str) -> None:
    ended = bhk(command, "")
    assert ended.status == 2
    assert ended.err == "error: argument 2 is empty; is a variable of the shell not set?\n"
    assert list(bhk.folder.iterdir()) == []


def test_a_push_without_a_repository_or_a_file_says_so(bhk: Shell) -> None:
    ended = bhk("push", "sam.bhk")
    assert ended.status == 2
    assert "missing FILE.bhk or USER/REPO beside 'sam.bhk'" in ended.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("bhk in", ["inspect"]),
        ("bhk convert a.pth --pres", ["--preset"]),
        ("bhk convert a.pth --preset b", ["balanced", "birkhoff"]),
        ("bhk convert a.pth --calibrate d", ["dead-leaves"]),
        ("bhk convert a.pth --steps ", ["measured", "table"]),
    ],
)
def test_the_shell_completes_words(bhk: Shell, words: str, expected: list[str]) -> None:
    environment = {
        "_BHK_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    ended = bhk(environment=environment)
    assert ended.out.split() == expected
