"""A .bhk file is read without torch: the tests run in a Python that cannot import it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import bhk

_ROOT = Path(bhk.__file__).parent.parent
# A light reader has numpy, zstandard and msgspec, and typer for the command line.
_BLOCKED = ("torch", "safetensors", "huggingface_hub", "yaml", "triton", "transformers", "PIL")
_BLOCKER = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {_BLOCKED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
sys.path.insert(0, {str(_ROOT)!r})
"""


def _run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _BLOCKER + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def _command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return _run("from bhk.cli.main import main; main()", *arguments)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(65, 77, generator=generator)
    tensors = {
        "a.weight": weight,
        "b.weight": weight[:64].bfloat16(),
        "c.weight": weight.half(),
        "d": torch.arange(3),
        "e": weight[:3].to(torch.float8_e4m3fn),
        "f": weight[0] > 0,
        "g": weight[0].bfloat16(),
        "h": torch.zeros(0, 4),
    }
    tensors["tied"] = tensors["a.weight"]
    source = tmp_path_factory.mktemp("plain") / "model.pth"
    torch.save(tensors, source)
    report = bhk.convert(source)
    assert report.path is not None
    return report.path


def test_arrays_have_the_values_of_the_tensors(path: Path) -> None:
    code = """
import bhk, hashlib, json
arrays = bhk.load_arrays(sys.argv[1])
with bhk.open(sys.argv[1]) as file:
    part = file.array("b.weight", slice(3, 9))
    assert (part == arrays["b.weight"][3:9]).all()
    assert file.layer("a.weight").encoding == "trajectory"
assert arrays["tied"] is arrays["a.weight"]
found = {name: (str(a.dtype), a.shape, hashlib.sha256(a.tobytes()).hexdigest()) for name, a in arrays.items()}
assert "torch" not in sys.modules
print(json.dumps(found))
"""
    done = _run(code, path)
    assert done.returncode == 0, done.stderr
    expected = {}
    for name, tensor in bhk.load_state_dict(path).items():
        lacking = tensor.dtype in (torch.bfloat16, torch.float8_e4m3fn)
        plain = (tensor.float() if lacking else tensor).numpy()
        expected[name] = [str(plain.dtype), list(plain.shape), hashlib.sha256(plain.tobytes()).hexdigest()]
    assert json.loads(done.stdout) == expected


def test_inspecting_and_verifying(path: Path) -> None:
    done = _command("inspect", path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"][0]["name"] == "a.weight"
    done = _command("verify", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is intact" in done.stdout


def test_a_damaged_file_is_found(path: Path, tmp_path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-70] ^= 1
    (tmp_path / "damaged.bhk").write_bytes(data)
    done = _command("verify", tmp_path / "damaged.bhk")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "SHA-256" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("convert", "model.pth"),
        ("verify", "model.bhk", "--against", "model.pth"),
        ("export", "model.bhk", "--out", "a"),
    ],
)
def test_a_command_that_needs_torch_says_so_in_one_line(path: Path, arguments: tuple[str, ...]) -> None:
    done = _command(*(path.parent / part if part.startswith("model") else part for part in arguments))
    assert done.returncode == 1
    assert done.stderr == "error: this needs the package torch, which is not installed; run: pip install torch\n"


@pytest.mark.parametrize(
    "use", ["bhk.convert", "bhk.nn.HyperLinear", "file.tensor('d')", "file.state_dict()", "file.codes('d')"]
)
def test_python_says_what_is_missing(path: Path, use: str) -> None:
    code = f"""
import bhk
file = bhk.open(sys.argv[1])
try:
    {use}
except bhk.errors.MissingPackageError as error:
    print(error)
"""
    done = _run(code, path)
    assert done.stdout == "this needs the package torch, which is not installed; run: pip install torch\n", done.stderr
