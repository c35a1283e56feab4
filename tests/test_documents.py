"""The README and the documents: their commands, code and links, and the length of the README."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import bhk
from bhk.cli.app import app
from tools import demo

ROOT = Path(__file__).parents[1]
GENERATED = ("cli.md", "python.md")
PAGES = sorted([*ROOT.glob("*.md"), *(page for page in (ROOT / "docs").glob("*.md") if page.name not in GENERATED)])
LINKED = [
    *PAGES,
    *(ROOT / "docs" / name for name in GENERATED),
    ROOT / "kernels" / "README.md",
    ROOT / "format_spec" / "README.md",
]
GROUP: Any = typer.main.get_command(app)
MODEL = "sam_vit_b_01ec64"


def commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each `bhk` command line in the code blocks of a page."""
    yield from (shlex.split(line, comments=True) for line in re.findall(r"^    bhk (.*)$", text, re.MULTILINE))


def options(name: str) -> set[str]:
    return {option for parameter in GROUP.commands[name].params for option in parameter.opts}


def parse(name: str, *arguments: str) -> None:
    """Take a command line apart; raises an exception if there is no such command or option."""
    context = GROUP.make_context("bhk", [name], resilient_parsing=True)
    command = GROUP.commands[name]
    command.make_parser(type(context)(command)).parse_args(args=list(arguments))


CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which names old options, too


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for line in commands(text):
        parse(*line)
    for name, rest in re.findall(r"`bhk ([a-z]+)([^`]*)`", text):
        assert set(re.findall(r"--[a-z-]+", rest)) <= options(name), name
    known = {option for name in GROUP.commands for option in options(name)}
    assert set(re.findall(r"`(--[a-z-]+)", text)) <= known


def test_an_option_that_does_not_exist_is_found() -> None:
    with pytest.raises(Exception, match="--softly"):
        parse("convert", "model.pth", "--softly")


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text):
        target, _, anchor = next(filter(None, link)).partition("#")
        if target.startswith("https://"):
            continue
        path = (page.parent / target) if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1200


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the README's reader has: a checkpoint of this name, a picture, and a folder of pictures."""
    pytest.importorskip("segment_anything")
    demo.write_checkpoint(tmp_path / f"{MODEL}.pth")
    picture = Image.open(demo.PICTURES / "kites.jpg").resize((1024, 768))
    (tmp_path / "photos").mkdir()
    picture.save(tmp_path / "photo.jpg")
    shutil.copy(tmp_path / "photo.jpg", tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_readme_run(downloads: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line for line in commands(text) if any(MODEL in argument for argument in line)]
    assert [line[0] for line in lines] == ["convert", "inspect", "eval", "segment", "export"]
    lines[2] += ["--points", "2", "--boxes", "1", "--no-control"]  # a minute less
    for line in lines:
        result = CliRunner().invoke(app, line)
        assert result.exit_code == 0, (line, result.output, result.exception)
    assert (downloads / "overlay.png").exists()
    assert (downloads / "restored.pth").exists()


def test_the_python_of_the_readme_runs(downloads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert set(names["weights"]) == set(bhk.load_state_dict(downloads / "sam_b.bhk"))
    assert "(1, 768, 1024)" in capsys.readouterr().out
