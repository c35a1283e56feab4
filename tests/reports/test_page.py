"""The page loads nothing (promise 3 of SECURITY.md)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bhk
from bhk.container.provenance import others
from bhk.reports.page import render, script_json
from bhk.reports.page_data import logarithmic, rounded
from reports.conftest import HOSTILE, LICENSE, Made


def data_of(page: Path) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_data_says_what_the_file_says(made: Made) -> None:
    data, inspected = data_of(made.page), bhk.inspect(made.file)
    assert data["file"]["bytes"] == made.file.stat().st_size
    assert data["file"]["sha256"] == hashlib.sha256(made.file.read_bytes()).hexdigest()
    assert data["file"]["verify"] == "bhk verify sam.bhk --against sam.pth"
    assert dict(data["file"]["metadata"]) == others(inspected.metadata)
    assert data["file"]["made_with"] == inspected.made_with
    assert sum(layer["bytes"] for layer in data["layers"]) == inspected.streams
    for layer, row in zip(data["layers"], inspected.rows, strict=True):
        assert (layer["name"], tuple(layer["shape"]), layer["bytes"]) == (row.name, row.shape, row.bytes)
        assert (layer["error"] or {}).get("snr") == pytest.approx(row.snr_db)
        counts = np.frombuffer(base64.b64decode(layer["sketch"]["decoded"]), "<u4")
        assert counts.sum() == layer["sketch"]["sampled"]


def test_masks_are_compared(made: Made) -> None:
    data, written = data_of(made.page), made.report
    assert written.pictures == ("scene 0.png", "scene 1.png")
    assert [picture["name"] for picture in data["pictures"]] == list(written.pictures)
    masks = [mask for picture in data["pictures"] for mask in picture["masks"]]
    assert written.iou == pytest.approx(np.mean([mask["iou"] for mask in masks]))
    assert written.iou > 0.5
    assert [skipped.name for skipped in written.skipped] == ["a damaged one.jpg", "notes.txt"]
    for picture in data["pictures"]:
        assert (picture["width"], picture["height"]) == (128, 128)
        assert base64.b64decode(picture["original"].split(",")[1]).startswith(b"\xff\xd8\xff")
        assert base64.b64decode(picture["difference"].split(",")[1]).startswith(b"\x89PNG")


def test_the_page_is_self_contained(made: Made) -> None:
    text = made.page.read_text("utf-8")
    assert made.report.bytes == made.page.stat().st_size < 2_000_000
    assert "default-src 'none'" in text
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    for tag, directive in (("style", "style-src"), ('script type="module"', "script-src")):
        body = re.search(rf"<{tag}>(.*?)</{tag.split()[0]}>", text, re.DOTALL)
        assert body
        digest = base64.b64encode(hashlib.sha256(body[1].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy[1]
    without_data = re.sub(r'id="data">.*?</script>', "", text, flags=re.DOTALL).replace(
        "http://www.w3.org/2000/svg", ""
    )
    assert not re.search(r"https?://|\bsrc=|\bhref=\"(?!#)|\bstyle=|\bon\w+=", without_data)


def test_hostile_text_stays_text(made: Made, tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    assert LICENSE in dict(data_of(made.page)["file"]["metadata"]).values()
    assert "<script>alert" not in made.page.read_text("utf-8")
    torch.save(tensors, tmp_path / "<b>&.pth")
    file = bhk.convert(tmp_path / "<b>&.pth", threads=1).path
    assert file is not None
    page = bhk.report(file, threads=1).path
    assert page == tmp_path / "<b>&.html"
    text = page.read_text("utf-8")
    assert HOSTILE in {layer["name"] for layer in data_of(page)["layers"]}
    assert "<img" not in text
    assert "<title>&lt;b&gt;&amp;.bhk" in text


def test_json_in_a_script_has_no_markup() -> None:
    value = {"a": "</script><!--&\u2028", "{{script}}": "{{data}}"}
    assert json.loads(script_json(value)) == value
    assert not set(script_json(value)) & set("<>&\u2028")
    assert render(value, "{{data}}").count('"{{data}}"') == 1
    with pytest.raises(ValueError, match="JSON compliant"):
        script_json(float("nan"))


def test_numbers_are_short_and_finite() -> None:
    assert (rounded(1 / 3), rounded(float("inf")), rounded(None)) == (0.333333, None, None)
    assert logarithmic(np.array([[0, 1], [8, 99]], np.uint32)).tolist() == [[0, 38], [122, 255]]
    assert logarithmic(np.zeros((2, 2), np.uint32)).max() == 0
