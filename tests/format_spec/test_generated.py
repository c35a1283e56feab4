from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.format_spec import generate, vectors

ROOT = Path(__file__).parents[2]


def test_tables_and_schema_are_up_to_date() -> None:
    for path, text in generate.generated().items():
        assert path.read_text(encoding="utf-8") == text, path.name


def test_vectors_are_up_to_date_and_small() -> None:
    made = vectors.vectors()
    there = {path.relative_to(vectors.FOLDER).as_posix() for path in vectors.FOLDER.rglob("*") if path.is_file()}
    assert there == made.keys()
    for name, data in made.items():
        assert (vectors.FOLDER / name).read_bytes() == data, name
    assert sum(map(len, made.values())) < 500_000


@pytest.mark.parametrize("module", ["generate", "vectors"])
def test_check_says_that_all_is_well(module: str) -> None:
    command = [sys.executable, "-m", f"tools.format_spec.{module}", "--check"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("stale", ["README.md", "header.schema.json"])
def test_check_names_the_stale_file(stale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("README.md", "header.schema.json"):
        (tmp_path / name).write_bytes((ROOT / "format_spec" / name).read_bytes())
    text = (tmp_path / stale).read_text(encoding="utf-8")
    (tmp_path / stale).write_text(text.replace("spacing", "distance"), encoding="utf-8")
    monkeypatch.setattr(generate, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    with pytest.raises(SystemExit, match=f"format_spec/{stale} is stale"):
        generate.main()
    monkeypatch.setattr(sys, "argv", ["generate"])
    generate.main()
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    generate.main()


def test_check_names_a_stale_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["vectors"])
    (tmp_path / "left_over.bhk").write_bytes(b"")
    vectors.main()
    assert not (tmp_path / "left_over.bhk").exists()
    (tmp_path / "good" / "minimal.bhk").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["vectors", "--check"])
    with pytest.raises(SystemExit, match=r"good/minimal\.bhk is stale"):
        vectors.main()
