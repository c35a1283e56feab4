"""The node pack, with the real demo model, and what it takes of ComfyUI stood in for."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from bhk.nn import HyperLinear
from bhk.pictures.scenes import HELD_OUT, make_scene

if TYPE_CHECKING:
    from hub.fake_hub import FakeHub

PACK = Path(__file__).parent.parent.parent.parent / "tools" / "integrations" / "comfyui"
SCENE = make_scene(HELD_OUT)
IMAGE = (
    torch.from_numpy(SCENE.picture)[None] / 255
)  # as ComfyUI has it: float32 (images, height, width, channels), 0 ... 1


def _folder_paths(models: Path) -> ModuleType:
    """Return what `folder_paths` of ComfyUI does, as far as loaders need it."""
    stand_in: Any = ModuleType("folder_paths")
    stand_in.models_dir = str(models)
    stand_in.folder_names_and_paths = {"sams": ([str(models / "elsewhere")], {".pth"})}

    def get_filename_list(name: str) -> list[str]:
        places, suffixes = stand_in.folder_names_and_paths[name]
        return sorted(path.name for place in places for path in Path(place).glob("*") if path.suffix in suffixes)

    def get_full_path(name: str, file: str) -> str | None:
        places = (Path(place) / file for place in stand_in.folder_names_and_paths[name][0])
        return next((str(path) for path in places if path.is_file()), None)

    stand_in.get_filename_list, stand_in.get_full_path = get_filename_list, get_full_path
    return stand_in  # type: ignore[no-any-return]


@pytest.fixture
def models(demo_file: Path, tmp_path: Path) -> Path:
    """A models folder with two .bhk files, one of them where the user keeps SAM models."""
    for name in ("sams/demo_sam.bhk", "elsewhere/other.bhk"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to(demo_file)
    return tmp_path


@pytest.fixture
def pack(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The node pack, imported as ComfyUI does; its nodes run without gradients, as there."""
    comfy: Any = ModuleType("comfy")
    comfy.model_management = ModuleType("comfy.model_management")
    comfy.model_management.get_torch_device = lambda: torch.device("cpu")
    for module in (comfy, comfy.model_management, _folder_paths(models)):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    specification = importlib.util.spec_from_file_location(
        "bhk_nodes", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "bhk_nodes", module)
    specification.loader.exec_module(module)
    with torch.inference_mode():
        yield module
    del sys.modules["bhk_nodes.nodes"]


def run(pack: Any, node: str, **inputs: Any) -> Any:
    """Run a node as ComfyUI does: what it is given must be among its inputs."""
    kind = pack.NODE_CLASS_MAPPINGS[node]
    kinds = kind.INPUT_TYPES()
    assert set(kinds["required"]) <= set(inputs) <= set(kinds["required"]) | set(kinds.get("optional", {}))
    results = getattr(kind(), kind.FUNCTION)(**inputs)
    assert len(results) == len(kind.RETURN_TYPES) == len(kind.RETURN_NAMES)
    return results


@pytest.fixture
def sam(pack: Any) -> nn.Module:
    """The demo model as the loader gives it."""
    return run(pack, "BhkLoadSam", model_name="demo_sam.bhk", device="auto")[0]  # type: ignore[no-any-return]


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def _iou(one: Any, other: Any) -> float:
    one, other = np.asarray(one, bool), np.asarray(other, bool)
    return float((one & other).sum() / (one | other).sum())


def test_nodes_have_names_and_files_are_listed(pack: Any) -> None:
    assert set(pack.NODE_CLASS_MAPPINGS) == set(pack.NODE_DISPLAY_NAME_MAPPINGS)
    required = pack.NODE_CLASS_MAPPINGS["BhkLoadSam"].INPUT_TYPES()["required"]
    assert required["model_name"] == (["demo_sam.bhk", "other.bhk"],)
    with pytest.raises(FileNotFoundError, match=r"gone\.bhk is in none of the folders"):
        run(pack, "BhkLoadSam", model_name="gone.bhk", device="cpu")


@pytest.mark.parametrize("device", ["auto", "gpu", "cpu"])
def test_a_loaded_model_keeps_its_codes(pack: Any, device: str) -> None:
    (model,) = run(pack, "BhkLoadSam", model_name="other.bhk", device=device)
    assert any(isinstance(module, HyperLinear) for module in model.modules()) is (device != "cpu")
    assert model.sam_wrapper.is_auto_mode is (device == "auto")
    assert model.model_name == "sam"


def test_a_model_comes_from_the_hub(pack: Any, hub: FakeHub, demo_file: Path) -> None:
    hub.add("me/demo", {"model.bhk": demo_file})
    (model,) = run(pack, "BhkLoadSamFromHub", repository=" hf://me/demo ", device="cpu")
    assert type(model).__module__.startswith("segment_anything.")


def test_boxes_give_a_mask_an_image_and_one_an_object(pack: Any, sam: nn.Module) -> None:
    boxes = [_box(mask) for mask in SCENE.masks[:2]]
    text = " ".join(",".join(map(str, box)) for box in boxes)
    images = torch.cat([IMAGE, IMAGE.flip(2)])
    mask, objects = run(pack, "BhkSegmentWithSam", sam_model=sam, image=images, boxes=text)
    assert (mask.dtype, tuple(mask.shape), tuple(objects.shape)) == (torch.float32, (2, 128, 128), (4, 128, 128))
    assert torch.equal(mask[0], torch.maximum(objects[0], objects[1]))
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert _iou(objects[0], SCENE.masks[0]) > 0.9
    assert _iou(objects[1], SCENE.masks[1]) > 0.79
    assert not torch.equal(mask[0], mask[1])


def test_points_are_taken_as_text_and_as_json(pack: Any, sam: nn.Module) -> None:
    x, y = (sum(_box(SCENE.masks[0])[side::2]) // 2 for side in (0, 1))
    asked = (f"{x},{y}", f'[{{"x": {x}, "y": {y}}}]', f"[[{x}, {y}]]")
    masks = [run(pack, "BhkSegmentWithSam", sam_model=sam, image=IMAGE, points=text)[0] for text in asked]
    assert masks[0].any()
    assert all(torch.equal(mask, masks[0]) for mask in masks)
    beside = run(pack, "BhkSegmentWithSam", sam_model=sam, image=IMAGE, points=asked[0], negative_points="2,2 125,2")
    assert not beside[0][0, 2, 2]
    for text in ("10;20", "[10, 20]", '[{"x": 1}]', "[["):
        with pytest.raises(ValueError, match="is neither a list like 10,20 30,40 nor JSON"):
            run(pack, "BhkSegmentWithSam", sam_model=sam, image=IMAGE, points=text)


def test_what_impact_pack_asks_is_answered(sam: Any) -> None:
    wrapper, box = sam.sam_wrapper, _box(SCENE.masks[0])
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    wrapper.prepare_device()
    several = wrapper.predict(SCENE.picture, [centre], [1], list(box), 0.0)
    (best,) = wrapper.predict(SCENE.picture, [centre], [1], list(box), 2.0)
    (alone,) = wrapper.predict(SCENE.picture, [centre, (2, 2)], [1, 0], None, 2.0)
    wrapper.release_device()
    assert len(several) == 3
    assert all(mask.shape == (128, 128) for mask in several)
    assert _iou(best, SCENE.masks[0]) > 0.9
    assert alone[int(centre[1]), int(centre[0])]


def test_what_comfyui_segment_anything_asks_is_answered(sam: Any) -> None:
    """It makes a predictor of segment_anything of the model."""
    from segment_anything import SamPredictor

    predictor = SamPredictor(sam)
    predictor.set_image(SCENE.picture)
    boxes = predictor.transform.apply_boxes_torch(torch.tensor([_box(SCENE.masks[0])]), (128, 128))
    masks, _, _ = predictor.predict_torch(point_coords=None, point_labels=None, boxes=boxes, multimask_output=False)
    assert _iou(masks[0, 0], SCENE.masks[0]) > 0.9
