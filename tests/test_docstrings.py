"""The examples in the docstrings of everything public, run as they stand."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import bhk
from bhk.base.report import Report
from tools import demo
from tools.public_names import PublicName, public_names

pytest.importorskip("segment_anything")
NAMES = {public.name: public for public in public_names()}
WITH_EXAMPLE = [name for name, public in NAMES.items() if ">>>" in public.docstring]
NEEDS_NETWORK = {"bhk.pull"}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the examples name: the demo model, what it converts to, and a picture."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copyfile(demo.CHECKPOINT, folder / "demo_sam.safetensors")
    shutil.copyfile(demo.PICTURES / "kites.jpg", folder / "photo.jpg")
    bhk.convert(folder / "demo_sam.safetensors")
    return folder


def run_example(public: PublicName) -> str:
    """Run the example of a docstring in the current folder; return what went wrong."""
    names = {"bhk": bhk, "torch": torch, "np": np}
    test = doctest.DocTestParser().get_doctest(public.docstring, names, public.name, None, None)
    complaints: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(test, out=complaints.append)
    return "".join(complaints)


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_the_example_does_what_it_shows(
    name: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.startswith(("bhk.sam.build_sam2", "bhk.segment_video")):
        pytest.importorskip("sam2")
    if name == "bhk.export_onnx":
        pytest.importorskip("onnx")
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    complaints = run_example(NAMES[name])
    assert not complaints, complaints


def test_a_wrong_example_is_found() -> None:
    wrong = PublicName("bhk.wrong", lambda: None, "function")
    wrong.value.__doc__ = ">>> bhk.__name__\n'other'\n"
    assert "'other'" in run_example(wrong)


def needs_example(public: PublicName) -> bool:
    """Tell whether users call this: functions, registries, and classes other than the reports that functions return."""
    if public.kind == "class":
        return not issubclass(public.value, Report)
    return public.kind in ("function", "value")


def test_everything_public_has_an_example_that_runs() -> None:
    silent = set()
    for name, public in NAMES.items():
        steps = doctest.DocTestParser().get_examples(public.docstring)
        if needs_example(public) and all(doctest.SKIP in step.options for step in steps):
            silent.add(name)
    assert silent == NEEDS_NETWORK
