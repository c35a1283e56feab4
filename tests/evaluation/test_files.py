from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from publishing.made_up import SHA256, accuracy, fidelity

from bhk.base.files import DestinationExistsError, WriteError
from bhk.evaluation.files import Record, RecordColumn, check_results_file, csv_text, latex_text

_RECORDS: list[Record] = [
    {"model": "a_b.bhk", "iou": 0.98765, "iou_low": 0.9, "iou_high": None, "masks": 1234},
    {"model": 'c, "d".bhk', "iou": float("nan"), "share": 0.5, "share_low": -0.25, "share_high": 0.75},
]
_COLUMNS = (
    RecordColumn("model", "Model & more", side="left"),
    RecordColumn("iou", "IoU"),
    RecordColumn("share", "Share, %", digits=1, percent=True),
    RecordColumn("masks", "Masks"),
    RecordColumn("nothing", "Nothing"),
)


def test_csv_has_every_column_and_full_precision() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(_RECORDS))))
    assert list(rows[0]) == ["model", "iou", "iou_low", "iou_high", "masks", "share", "share_low", "share_high"]
    assert (float(rows[0]["iou"]), rows[0]["iou_high"], rows[0]["share"]) == (0.98765, "", "")
    assert (rows[1]["model"], rows[1]["masks"]) == ('c, "d".bhk', "")


def test_latex_escapes_and_leaves_out_what_is_empty() -> None:
    lines = latex_text(_RECORDS, _COLUMNS, ["40 pictures\nof mine"]).splitlines()
    assert lines[0] == r"% '40 pictures\nof mine'"
    assert lines[1:4] == [r"% needs \usepackage{booktabs}", r"\begin{tabular}{lrrr}", r"\toprule"]
    assert lines[4] == r"Model \& more & IoU & Share, \% & Masks \\"
    assert lines[6] == r"a\_b.bhk & 0.9877 & -- & 1,234 \\"
    assert lines[7] == r'c, "d".bhk & -- & 50.0 [$-$25.0, 75.0] & -- \\'


def _has_latex() -> bool:
    if not (shutil.which("pdflatex") and shutil.which("kpsewhich")):
        return False
    return bool(subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).stdout)


@pytest.mark.skipif(not _has_latex(), reason="needs LaTeX with booktabs")
def test_latex_compiles(tmp_path: Path) -> None:
    fidelity(SHA256).save(tmp_path / "table.tex")
    (tmp_path / "page.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table}\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_reports_are_saved_by_suffix(tmp_path: Path) -> None:
    for report, heading in ((fidelity(SHA256), "mean IoU"), (accuracy(SHA256), "mIoU & AP")):
        report.save(tmp_path / "a.TEX", force=True)
        text = (tmp_path / "a.TEX").read_text()
        assert heading in text
        assert "private" not in text
        assert "% seed 0; bhk 9.9, python 3.12.1, torch 2.9.0, numpy 2.3.0; AMD EPYC 9V74" in text
        report.save(tmp_path / "a.csv", force=True)
        (first, *_) = csv.DictReader((tmp_path / "a.csv").open())
        assert (first["model"], first["processor"], first["bhk"]) == ("x.bhk", "AMD EPYC 9V74", "9.9")
    assert text.count("1.32 [1.00, 2.00]") == 1
    with pytest.raises(DestinationExistsError):
        report.save(tmp_path / "a.csv")


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    for name in ("results", "results.txt"):
        with pytest.raises(WriteError, match=r"results are written as \.json, \.csv, \.tex"):
            check_results_file(tmp_path / name, force=False)
