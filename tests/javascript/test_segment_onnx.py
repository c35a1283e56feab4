"""examples/segment_onnx.html in Chromium, with onnxruntime-web and the demo model.

Needs the npm package in the clone: npm install --no-save onnxruntime-web@1.30.0
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bhk
from javascript.browser import WAIT_MS, needs_browser
from javascript.serving import served
from javascript.third_reader import ROOT
from tools import demo

RUNTIME = ROOT / "node_modules" / "onnxruntime-web" / "dist"
EXAMPLES = ROOT / "examples"
POINT, BOX = (190.0, 150.0), (120.0, 60.0, 300.0, 250.0)


@needs_browser
@pytest.mark.full
@pytest.mark.skipif(not RUNTIME.is_dir(), reason="needs the npm package onnxruntime-web")
@pytest.mark.parametrize("weights", ["int8", "float32"])
def test_masks_in_a_browser_are_those_of_segment(browser: Any, tmp_path: Path, weights: Any) -> None:
    model = bhk.convert(demo.write_checkpoint(tmp_path / "demo_sam.pth")).path
    assert model is not None
    bhk.export_onnx(model, tmp_path / "onnx", weights=weights)
    shutil.copy(EXAMPLES / "segment_onnx.html", tmp_path)
    (tmp_path / "ort").symlink_to(RUNTIME)
    with Image.open(EXAMPLES / "demo" / "pictures" / "kites.jpg") as picture:
        picture.crop((0, 0, 330, 280)).save(tmp_path / "picture.png")  # decoders of JPEG differ
    with served(tmp_path) as server:
        page = browser.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(f"{server.url}/segment_onnx.html?model=onnx&ort=ort/&picture=picture.png")
        page.wait_for_function("window.ready")
        for place, prompt in ((POINT, {"points": [POINT]}), (BOX, {"boxes": [BOX]})):
            text = page.evaluate(
                "async (place) => (await segment(place)).reduce((text, logit) => text + (logit > 0 ? 1 : 0), '')", place
            )
            expected = bhk.segment(model, tmp_path / "picture.png", **prompt)  # type: ignore[arg-type]
            mask = expected.masks[np.argmax(expected.scores)]
            found = np.array(list(text)).reshape(mask.shape) == "1"
            assert 0.01 < mask.mean() < 0.99
            assert (found != mask).mean() < 1e-4
            said = page.inner_text("#state")
            assert said.startswith(f"Predicted IoU {max(expected.scores):.3f}, in ")
        page.close()
