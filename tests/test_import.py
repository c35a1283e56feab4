from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import bhk

_ROOT = Path(bhk.__file__).parent.parent


def _modules_after(code: str) -> set[str]:
    """Return the modules that a fresh Python has when `code` has run."""
    code = (
        f"import sys\nsys.path.insert(0, {str(_ROOT)!r})\n{code}\nimport json\nprint(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_import_needs_no_other_package() -> None:
    modules = _modules_after("import bhk; bhk.__version__; dir(bhk)")
    standard = set(sys.stdlib_module_names) | {"__main__", "bhk"}
    site = _modules_after("")  # what the installation itself imports at every start
    assert {name for name in modules - site if name.partition(".")[0] not in standard} == set()
    assert not modules & {"torch", "numpy", "rich", "typer", "msgspec", "zstandard", "safetensors", "huggingface_hub"}


def test_inspecting_needs_no_torch(tmp_path: Path) -> None:
    import torch

    torch.save({"a.weight": torch.ones(40, 40), "b": torch.ones(3)}, tmp_path / "a.pth")
    bhk.convert(tmp_path / "a.pth")
    modules = _modules_after(f"import bhk; print(bhk.inspect({str(tmp_path / 'a.bhk')!r}).ratio)")
    assert "bhk.tasks.inspect" in modules
    assert not modules & {"torch", "rich", "typer", "huggingface_hub"}


def test_converting_and_running_a_model_on_the_cpu_needs_no_triton(tmp_path: Path) -> None:
    code = f"""
import bhk, torch
model = torch.nn.Sequential(torch.nn.Linear(64, 64))
torch.save(model.state_dict(), {str(tmp_path / "a.pth")!r})
bhk.convert({str(tmp_path / "a.pth")!r})
bhk.load_into(model, {str(tmp_path / "a.bhk")!r}, mode="hyper")
assert isinstance(model[0], bhk.nn.HyperLinear)
model(torch.ones(1, 64))
"""
    modules = _modules_after(code)
    assert "bhk.kernels.operators" in modules
    assert not modules & {"triton", "huggingface_hub", "typer", "rich", "yaml", "PIL"}


@pytest.mark.parametrize("name", bhk.__all__)
def test_a_public_name_is_always_the_same_object(name: str) -> None:
    first = getattr(bhk, name)
    assert not isinstance(first, ModuleType)
    assert name == "__version__" or callable(first)
    assert getattr(bhk, name) is first
    assert name in dir(bhk)


def test_names_stay_callable_when_their_modules_are_imported() -> None:
    import bhk.tasks.convert
    import bhk.tasks.inspect

    assert bhk.convert is bhk.tasks.convert.convert
    assert bhk.inspect is bhk.tasks.inspect.inspect


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'bhk' has no attribute 'compress'"):
        bhk.compress  # noqa: B018


@pytest.mark.parametrize("use", ["bhk.nn.HyperLinear", "bhk.sam.sam_model_registry"])
def test_public_rooms_are_found_after_the_import(use: str) -> None:
    assert f"bhk.{use.split('.')[1]}" in _modules_after(f"import bhk; {use}")
