"""The backend for Label Studio, with the real demo model, and what it takes of Label Studio stood in for."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bhk
from bhk.pictures.scenes import HELD_OUT, make_scene

SCRIPT = Path(__file__).parent.parent.parent.parent / "tools" / "integrations" / "label_studio" / "model.py"
SCENE = make_scene(HELD_OUT)
PICTURE = SCENE.picture[:, :100]  # 100 pixels wide, 128 high
MASK = SCENE.masks[0][:, :100]


class _Base:
    """`LabelStudioMLBase`, as far as the script needs it."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self.setup()

    def set(self, key: str, value: str) -> None:
        self._values[key] = value

    def get(self, key: str) -> str:
        return self._values[key]

    def get_first_tag_occurence(self, control: str, subject: str) -> tuple[str, str, str]:
        assert (control, subject) == ("BrushLabels", "Image")
        return "brush", "image", "picture"

    def get_local_path(self, url: str, *, task_id: int | None) -> str:
        assert task_id == 7
        return url.removeprefix("/data/")


@dataclass
class _Response:
    predictions: list[dict[str, Any]]


def _mask2rle(mask: np.ndarray) -> list[int]:
    """Check what the real one wants, and leave the mask as it is."""
    assert mask.dtype == np.uint8
    assert mask.ndim == 2
    return mask.ravel().tolist()  # type: ignore[no-any-return]


@pytest.fixture
def backend(demo_file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The backend, its model the demo's."""
    for name, contents in {
        "label_studio_ml": {},
        "label_studio_ml.model": {"LabelStudioMLBase": _Base},
        "label_studio_ml.response": {"ModelResponse": _Response},
        "label_studio_sdk": {},
        "label_studio_sdk.converter": {},
        "label_studio_sdk.converter.brush": {"mask2rle": _mask2rle},
    }.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("MODEL", str(demo_file))
    specification = importlib.util.spec_from_file_location("label_studio_backend", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    return script.BhkSegmentAnything()


@pytest.fixture
def task(tmp_path: Path) -> dict[str, Any]:
    Image.fromarray(PICTURE).save(tmp_path / "scene.png")
    return {"id": 7, "data": {"picture": f"/data/{tmp_path / 'scene.png'}"}}


def mark(kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return what Label Studio sends of something that an annotator has drawn."""
    value = {**value, kind: ["Stone"]}
    return {"type": kind, "value": value, "original_width": 100, "original_height": 128, "image_rotation": 0, **more}


def _masks(response: Any) -> list[np.ndarray]:
    (prediction,) = response.predictions
    return [np.array(region["value"]["rle"]).reshape(128, 100) == 255 for region in prediction["result"]]


def _rectangle() -> dict[str, float]:
    rows, columns = np.nonzero(MASK)
    left, top, right, low = columns.min(), rows.min() / 1.28, columns.max() + 1, (rows.max() + 1) / 1.28
    return {"x": left, "y": top, "width": right - left, "height": low - top}


def test_nothing_marked_is_nothing_found(backend: Any, task: dict[str, Any]) -> None:
    assert backend.predict([task]).predictions == []
    assert backend.predict([task], context={"result": []}).predictions == []


def test_a_rectangle_gives_a_brush_mask(backend: Any, task: dict[str, Any]) -> None:
    response = backend.predict([task], context={"result": [mark("rectanglelabels", _rectangle())]})
    (mask,) = _masks(response)
    assert (mask & MASK).sum() / (mask | MASK).sum() > 0.9
    (prediction,) = response.predictions
    (region,) = prediction["result"]
    assert region["value"]["brushlabels"] == ["Stone"]
    assert region["value"]["format"] == "rle"
    named = ("type", "from_name", "to_name", "original_width", "original_height", "image_rotation")
    assert [region[name] for name in named] == ["brushlabels", "brush", "image", 100, 128, 0]
    assert prediction["score"] == region["score"] > 0.5
    assert prediction["model_version"] == f"bhk {bhk.__version__}: demo_sam.bhk"


def test_points_on_it_and_beside_it_ask_for_one_mask(backend: Any, task: dict[str, Any]) -> None:
    rectangle = _rectangle()
    centre = {"x": rectangle["x"] + rectangle["width"] / 2, "y": rectangle["y"] + rectangle["height"] / 2}
    marks = [
        mark("keypointlabels", centre, is_positive=True),
        mark("keypointlabels", {"x": 100, "y": 0}, is_positive=False),  # the very corner
    ]
    (mask,) = _masks(backend.predict([task], context={"result": marks}))
    assert mask[int(centre["y"] * 1.28), int(centre["x"])]
    assert not mask[0, 99]


def test_several_rectangles_give_a_mask_each(backend: Any, task: dict[str, Any]) -> None:
    beyond = {"x": 50, "y": 50, "width": 50.0000001, "height": 50.0000001}
    marks = [mark("rectanglelabels", _rectangle()), mark("rectanglelabels", beyond)]
    first, second = _masks(backend.predict([task], context={"result": marks}))
    assert (first & MASK).sum() / (first | MASK).sum() > 0.9
    assert second[64:, 50:].sum() > 0.9 * second.sum()
