"""Every text of a file is data in every output (promise 2 of SECURITY.md)."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rich.progress
import torch
import yaml
from markdown_it import MarkdownIt
from publishing.made_up import bhk_file

import bhk
from bhk.base.errors import BhkError
from bhk.base.report import Report
from bhk.base.texts import printable, printable_json
from bhk.checkpoint.companions import companions_of
from bhk.cli.output import Output
from bhk.container.header import ModelEntry
from bhk.evaluation.files import csv_text
from bhk.publishing.markdown import plain
from bhk.publishing.metadata import _dumped

BIDI = "\u202ekhb.evil\u2066"
CONTROLS = "\x1b[31m\x9b1A\x85\x07"
NAMES = (r"$\evil$.weight", "[bold]a[/bold].weight", f"{BIDI}.weight", "</script><b>x.weight", "=1+1.weight")
HTML = "</code><img src=x onerror=alert(1)> [x](javascript:alert(1)) <!-- bhk:end --> `|` ![](http://x/y.png) www.x.org"


def _shows_as_data(text: str) -> bool:
    """Return whether a text holds no character that steers a terminal or turns the order of letters around."""
    return all(char.isprintable() or char == "\n" for char in text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file whose names, metadata and model are hostile."""
    generator = torch.Generator().manual_seed(0)
    torch.save({name: torch.randn(40, 40, generator=generator) for name in NAMES}, tmp_path / "a.pth")
    metadata = {"note": CONTROLS + BIDI, "license": "mit"}
    return bhk.convert(tmp_path / "a.pth", tmp_path / "a.bhk", metadata=metadata).path or tmp_path


@pytest.mark.parametrize("text", [CONTROLS, BIDI, "\u2028", "\ue000", "\U000e0041", "\x7f"])
def test_escapes_are_reversible_in_json(text: str) -> None:
    document = json.dumps({"é 漢": [text, "ok"]}, indent=2, ensure_ascii=False)
    assert _shows_as_data(printable_json(document))
    assert json.loads(printable_json(document)) == {"é 漢": [text, "ok"]}
    assert "é 漢" in printable_json(document)
    assert _shows_as_data(printable(text))


def test_messages_of_errors_show_names_as_data() -> None:
    error = BhkError(f"tensor {CONTROLS}{BIDI} is\nbad")
    assert _shows_as_data(str(error))
    assert _shows_as_data(repr(error))
    assert "\n" in str(error)


def test_reports_show_names_as_data(path: Path, tmp_path: Path) -> None:
    for report in (bhk.inspect(path), bhk.verify(path, tmp_path / "a.pth"), bhk.diff(path, tmp_path / "a.pth")):
        assert isinstance(report, Report)
        assert _shows_as_data(report.json())
        assert _shows_as_data(str(report))
    assert bhk.inspect(path).metadata["note"] == CONTROLS + BIDI
    assert json.loads(bhk.inspect(path).json())["metadata"]["note"] == CONTROLS + BIDI


def test_figures_and_pages_show_names_as_data(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    bhk.report(path, tmp_path / "a.html", figures=tmp_path / "figures")
    page = (tmp_path / "a.html").read_text("utf-8")
    assert _shows_as_data(page.replace("\t", ""))
    assert "</script><b>" not in page
    drawn = (tmp_path / "figures" / "layer_map.svg").read_text("utf-8")
    assert r"$\evil$" in drawn
    assert "\u202e" not in drawn


@pytest.mark.parametrize("family", [HTML, BIDI + CONTROLS, "**bold**", "# x", "a\n\n# b"])
@pytest.mark.parametrize("variant", ["sam_vit_b", HTML])
def test_a_card_shows_a_model_as_data(tmp_path: Path, family: str, variant: str) -> None:
    metadata = {"source.name": HTML, "license": "mit", "conversion.quality": HTML, "source.bytes": HTML}
    path = bhk_file(tmp_path / "a.bhk", model=ModelEntry(family, variant, {"x": HTML}), metadata=metadata)
    card = bhk.push(path, "user/a", dry_run=True).card
    assert _shows_as_data(card)
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "mit"
    assert text.count("<!-- bhk:end -->") - text.count("`<!-- bhk:end -->`") >= 1
    html = MarkdownIt("commonmark").enable("table").render(text)
    for foreign in ("<img", "<b>", 'href="javascript', "<strong>bold", "www.x.org</a>", "<h1>x", "<h1>b"):
        assert foreign not in html


def test_names_in_markdown() -> None:
    assert plain("SAM2.1-B+ or MedSAM (large)") == "SAM2.1-B+ or MedSAM (large)"
    for text in ("a_b", "<b>", "www.x.org", "http://x", "a@b.c", "*a*", "a" * 200):
        assert plain(text).startswith("`")


def test_front_matter_escapes_what_shows_nothing() -> None:
    text = _dumped({"a": [f"é {BIDI}"], "b": "\x85"}, "\n")
    assert _shows_as_data(text)
    assert yaml.safe_load(text) == {"a": [f"é {BIDI}"], "b": "\x85"}
    assert "é" in _dumped({"a": "é"}, "\n")


def test_a_configuration_leads_to_no_code(tmp_path: Path) -> None:
    harmless = {"model_type": "sam", "architectures": ["SamModel"], "attn_implementation": "sdpa", "auto": {"map": 1}}
    config: dict[str, Any] = {
        **harmless,
        "auto_map": {"AutoModel": "x/y--z.M"},
        "vision_config": {"auto_map": {}, "_attn_implementation": "x/y", "hidden_size": 4},
        "text": [{"custom_pipelines": {}, "trust_remote_code": True}],
    }
    expected = {**harmless, "vision_config": {"hidden_size": 4}, "text": [{}]}
    metadata = {"file.config.json": json.dumps(config), "file.preprocessor_config.json": json.dumps(config)}
    path = bhk_file(tmp_path / "a.bhk", metadata=metadata)
    assert [json.loads(text) for text in companions_of(metadata).values()] == [expected, expected]
    bhk.push(path, "user/a", out=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text()).items() >= expected.items()
    assert json.loads((tmp_path / "out" / "preprocessor_config.json").read_text()) == expected
    (tmp_path / "folder").mkdir()
    bhk.export(path, tmp_path / "folder")
    assert json.loads((tmp_path / "folder" / "config.json").read_text()) == expected


def test_a_converted_configuration_leads_to_no_code(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.randn(40, 40)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam", "auto_map": {"AutoModel": "a.B"}}))
    path = bhk.convert(tmp_path / "pytorch_model.bin", tmp_path / "a.bhk").path
    assert path is not None
    assert bhk.inspect(path).metadata["file.config.json"] == '{"model_type":"sam"}'


def test_a_configuration_without_code_stays_as_it_is() -> None:
    text = '{ "b": 1, "a": {} }'
    assert companions_of({"file.config.json": text}) == {"config.json": text}


@pytest.mark.parametrize("text", ["{", '{"auto_map": {}, "a": 1, "a": 2}', '\ufeff{"auto_map": {}}'])
def test_what_other_programs_may_read_differently_is_not_exported(text: str, tmp_path: Path) -> None:
    path = bhk_file(tmp_path / "a.bhk", metadata={"file.config.json": text})
    (tmp_path / "folder").mkdir()
    bhk.export(path, tmp_path / "folder")
    assert not (tmp_path / "folder" / "config.json").exists()


def test_a_spreadsheet_takes_no_name_for_a_formula() -> None:
    text = csv_text([{"model": "=1+1", "picture": BIDI, "value": -1.5, "other": "-x", "plain": "a"}])
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["model"] == "'=1+1"
    assert row["other"] == "'-x"
    assert (row["value"], row["plain"]) == ("-1.5", "a")
    assert _shows_as_data(text)


def test_progress_bars_show_names_as_data(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class _Bars(rich.progress.Progress):
        def add_task(self, description: str, *args: Any, **options: Any) -> rich.progress.TaskID:
            shown.append(description)
            number = super().add_task(description, *args, **options)
            shown.extend(
                str(column.render(self.tasks[-1])) for column in self.columns if hasattr(column, "text_format")
            )
            return number

    monkeypatch.setattr(rich.progress, "Progress", _Bars)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Output().progress() as progress:
        assert progress is not None
        progress(f"Verifying [red]{CONTROLS}[/red]", 1, 2)
    assert all(map(_shows_as_data, shown))
    assert any("[red]" in text for text in shown)


def test_the_command_line_shows_names_as_data(path: Path) -> None:
    for options in (["--json"], [], ["--by", "role"]):
        run = subprocess.run(
            [sys.executable, "-m", "bhk", "inspect", str(path), *options], capture_output=True, text=True, check=True
        )
        assert _shows_as_data(run.stdout + run.stderr)
