from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bhk.container.header import ModelEntry
from bhk.nn.meta import Most, weights_on_meta
from bhk.sam.build import UnknownModelError, build_model
from bhk.sam.sam2_models import SAM2_TREE, with_stability
from bhk.sam.settings import SettingError
from bhk.sam.tree import settings_in
from bhk.sam.variants import VARIANTS

sam2 = pytest.importorskip("sam2")
_PACKAGE = Path(sam2.__file__).parent
_SAM2 = [variant.name for variant in VARIANTS.values() if variant.family == "sam2"]


def _document(config: str) -> Any:
    return yaml.safe_load((_PACKAGE / config).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", _SAM2)
def test_the_table_has_the_settings_of_the_package_s_yaml_files(name: str) -> None:
    variant = VARIANTS[name]
    found = with_stability(settings_in(_document(str(variant.config)), SAM2_TREE))
    found.pop("compile_image_encoder", None)
    assert found == variant.settings


@pytest.mark.parametrize("name", ["sam2_hiera_tiny", "sam2.1_hiera_base_plus"])
def test_what_is_built_is_what_the_package_builds(name: str) -> None:
    from sam2.build_sam import build_sam2

    variant = VARIANTS[name]
    with weights_on_meta():
        expected = build_sam2(variant.config, device="cpu")
        built = build_model(ModelEntry("sam2", name, {"config": dict(variant.settings or {})}))
    assert repr(built) == repr(expected)
    assert [_plain(module) for module in built.modules()] == [_plain(module) for module in expected.modules()]


def _plain(module: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if isinstance(value, int | float | str | tuple | None)}


def test_settings_of_a_training_are_those_of_its_model() -> None:
    found = settings_in(_document("configs/sam2.1_training/sam2.1_hiera_b+_MOSE_finetune.yaml"), SAM2_TREE)
    assert found["image_size"] == 1024  # ${scratch.resolution}
    assert found["image_encoder"]["trunk"] == {"embed_dim": 112, "num_heads": 2, "drop_path_rate": 0.1}
    assert not any(name.startswith(("prob_", "num_frames")) for name in found)


def _changed(place: str, value: object) -> dict[str, Any]:
    document = _document("configs/sam2.1/sam2.1_hiera_t.yaml")
    *parts, last = place.split(".")
    node = document["model"]
    for part in parts:
        node = node[part]
    node[last] = value
    return document


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        (None, "no model"),
        ({"model": {"image_size": 512}}, "no model"),
        (
            _changed("image_encoder.trunk._target_", "os.system"),
            "class 'system' at image_encoder.trunk; expected Hiera",
        ),
        (_changed("memory_encoder.extra", {"_target_": "os.system"}), "os.system at memory_encoder.extra"),
        (_changed("image_size", "${scratch.resolution}"), "a reference to scratch.resolution"),
        (_changed("image_size", 100_000), "image_size = 100000, more than"),
        (_changed("image_encoder.trunk.weights_path", "/tmp/x.pt"), "weights_path = '/tmp/x.pt'"),
    ],
)
def test_a_yaml_file_cannot_name_code_or_files(document: object, fault: str) -> None:
    with pytest.raises(SettingError, match=fault):
        settings_in(document, SAM2_TREE)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"image_encoder": {"class": "system"}}, "class 'system' at image_encoder"),
        ({"no_such": 1}, "SAM2Base has no setting no_such"),
        ({"memory_attention": {"num_layers": 4}}, "cannot build"),
        ({"image_encoder": {"trunk": {"stages": [1, 2, 20_000, 2]}}}, "larger than the tensors"),
    ],
)
def test_settings_of_a_file_are_checked_again(changes: dict[str, Any], fault: str) -> None:
    settings = {**(VARIANTS["sam2.1_hiera_tiny"].settings or {}), **changes}
    entry = ModelEntry("sam2", "sam2.1_hiera_tiny", {"config": settings})
    with pytest.raises(UnknownModelError, match=fault), weights_on_meta(Most.of([(640, 64)] * 1000)):
        build_model(entry)
