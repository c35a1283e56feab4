from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from publishing.made_up import accuracy, fidelity, written

from bhk.evaluation.documents import EvaluationDocumentError, read_reports
from bhk.evaluation.faults import FaultCount, FaultKind
from bhk.evaluation.intervals import Estimate
from bhk.evaluation.report import FORMAT, VERSION
from bhk.evaluation.results import Skipped

_SHA256 = "0" * 64


def test_a_report_is_read_back_unchanged(tmp_path: Path) -> None:
    for report in (fidelity(_SHA256), accuracy(_SHA256)):
        assert read_reports(written(tmp_path / "a.json", report)) == (report,)
    assert (report.model.name, report.annotations_name) == ("x.bhk", "instances_val2017.json")


def test_the_document_says_what_it_is() -> None:
    document = accuracy(_SHA256).document()
    assert list(document)[:4] == ["format", "version", "generator", "protocol"]
    assert (document["format"], document["version"], document["protocol"]) == (FORMAT, VERSION, "accuracy")
    assert document["accuracy"][0]["miou"] == {"value": 0.75, "low": 0.74, "high": 0.76}


def test_another_original_and_skipped_pictures_are_hinted_at() -> None:
    report = fidelity(_SHA256)
    assert report.hints == ()
    skipped = tuple(Skipped(f"{number}.png", "damaged") for number in range(7))
    model = dataclasses.replace(report.model, source_sha256="ab" * 32)
    warning, *named, rest = dataclasses.replace(report, model=model, skipped=skipped).hints
    assert warning.startswith(
        "warning: /home/me/private/x.bhk was converted from other weights (SHA-256 abababababab…)"
    )
    assert named == [f"skipped {number}.png: damaged" for number in range(5)]
    assert rest.startswith("skipped 2 more pictures")


def test_a_report_prints_its_tables() -> None:
    text = str(accuracy(_SHA256))
    assert "5,000 pictures, 36,335 objects of /data/private/instances_val2017.json (coco); single mask" in text
    assert "original: box" in text
    assert text.endswith("relative drop, prompted by box: mIoU 1.32 % (1.00 % … 2.00 %)")
    report = fidelity(_SHA256)
    report = dataclasses.replace(
        report, fidelity=dataclasses.replace(report.fidelity, embedding_cosine=Estimate(1, None, None))
    )
    assert "image embedding: cosine 1.00000 (–), lowest 0.99000" in str(report)


def test_faults_are_hinted_at_with_examples() -> None:
    faults = (FaultCount(FaultKind.CROWD, 1200, ("image 1", "image 2")),)
    (hint,) = dataclasses.replace(accuracy(_SHA256), faults=faults).hints
    assert hint == "1,200 × crowd: not prompted, ignored in AP; such as image 1; image 2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "coco"}, "format 'coco'"),
        ({"version": 2}, "version 2.*update bhk"),
        ({"protocol": "speed"}, "speed"),
        ({"pictures": "many"}, "pictures"),
        ({"fidelity": None}, "fidelity"),
        ({"model": {"path": "x"}}, "sha256"),
        ({"settings": {"points": 0, "boxes": 0}}, "expected at least one prompt"),
    ],
)
def test_a_malformed_document_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(fidelity(_SHA256).document() | changes))
    with pytest.raises(EvaluationDocumentError, match=message) as caught:
        read_reports(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff\xfe", b"\x89PNG", json.dumps({"a": 1}).encode(), b"[" * 9999]
)
def test_another_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(EvaluationDocumentError, match="expected a report of `bhk eval`"):
        read_reports(tmp_path / "a.json")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EvaluationDocumentError, match="No such file"):
        read_reports(tmp_path / "none.json")
