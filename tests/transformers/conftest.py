from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sam.models import small_hf_sam

import bhk
from bhk.checkpoint.companions import companions_of

pytest.importorskip("transformers.modeling_utils")  # without the package, this folder could be imported in its place


def publish(source: Path, folder: Path, **options: object) -> Path:
    """Convert the checkpoint in the folder `source`; return `folder` with what `bhk push` makes of the file."""
    folder.mkdir()
    bhk.convert(source, folder / "model.bhk", threads=1, **options)  # type: ignore[arg-type]
    with bhk.open(folder / "model.bhk") as file:
        for name, text in companions_of(file.metadata).items():
            (folder / name).write_text(text)
    change_config(
        folder, transformers_weights="model.bhk", quantization_config={"quant_method": "bhk", "file": "model.bhk"}
    )
    return folder


def change_config(folder: Path, **entries: object) -> None:
    """Change entries of the config.json in `folder`; None removes one."""
    config = {**json.loads((folder / "config.json").read_text()), **entries}
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.fixture(name="publish", scope="session")
def _publish() -> Callable[..., Path]:
    return publish


@pytest.fixture(name="change_config", scope="session")
def _change_config() -> Callable[..., None]:
    return change_config


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository of a small `SamModel`; not to be changed."""
    folder = tmp_path_factory.mktemp("sam")
    small_hf_sam().save_pretrained(folder / "dense")
    return publish(folder / "dense", folder / "repository")


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    """A repository of a small `SamModel` that the test may change."""
    return shutil.copytree(published, tmp_path / "repository")
