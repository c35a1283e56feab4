from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import bhk
import bhk.sam
from bhk.hub.errors import HubError
from bhk.nn import HyperLinear
from bhk.nn.errors import MismatchError
from bhk.sam import build_sam2, build_sam2_video_predictor, sam_hq_model_registry, sam_model_registry
from bhk.sam.build import UnknownModelError
from bhk.sam.configuration import ConfigurationError, given_configuration
from bhk.sam.registry import WrongModelError
from sam.models import small_sam
from sam.state_dicts import shapes_of

if TYPE_CHECKING:
    from hub.fake_hub import FakeHub

Published = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Makes the checkpoint of a variant, zeros except for one random tensor, and its .bhk file."""
    folder, made = tmp_path_factory.mktemp("published"), dict[str, tuple[Path, Path]]()

    def make(name: str) -> tuple[Path, Path]:
        if name not in made:
            tensors = {key: torch.zeros(shape) for key, shape in shapes_of(name).items()}
            for key in [key for key in tensors if key.endswith("num_batches_tracked")]:
                tensors[key] = torch.tensor(7)
            key = next(key for key in tensors if key.endswith(("mlp.lin1.weight", "mlp.layers.0.weight")))
            tensors[key].normal_(std=0.05, generator=torch.Generator().manual_seed(0))
            path = folder / f"{name}.pth"
            torch.save({"model": tensors} if name.startswith("sam2") else tensors, path)
            made[name] = path, bhk.convert(path).path
        return made[name]

    return make


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM of an unpublished size."""
    pytest.importorskip("segment_anything")
    path = tmp_path_factory.mktemp("small") / "small.pth"
    torch.save(small_sam().state_dict(), path)
    converted = bhk.convert(path).path
    assert converted is not None
    return converted


def test_registries_have_the_keys_of_the_packages() -> None:
    original = pytest.importorskip("segment_anything")
    assert set(original.sam_model_registry) <= set(sam_model_registry)
    assert len(sam_model_registry) == len(list(sam_model_registry))
    assert set(pytest.importorskip("segment_anything_hq").sam_model_registry) == set(sam_hq_model_registry)
    with pytest.raises(
        KeyError, match=r"^there is no model 'vit_g'; choose from default, vit_h, vit_l, vit_b, vit_t, edge_sam$"
    ):
        sam_model_registry["vit_g"]
    assert sam_model_registry.get("vit_g") is None


def test_a_missing_attribute_is_named() -> None:
    with pytest.raises(AttributeError, match=r"module 'bhk\.sam' has no attribute 'build_sam3'"):
        bhk.sam.build_sam3  # noqa: B018


@pytest.mark.parametrize(
    ("registry", "key", "name"),
    [(sam_model_registry, "vit_t", "mobile_sam"), (sam_hq_model_registry, "vit_tiny", "sam_hq_vit_tiny")],
)
def test_a_builder_takes_a_bhk_file_like_the_checkpoint(
    registry: Any, key: str, name: str, published: Published
) -> None:
    pytest.importorskip("segment_anything_hq")
    checkpoint, converted = published(name)
    expected, decoded = registry[key](checkpoint=str(checkpoint)), bhk.load_state_dict(converted)
    dense = registry[key](checkpoint=str(converted), mode="dense")
    assert type(dense) is type(expected)
    assert not dense.training
    assert dense.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(tensor, decoded[name]) for name, tensor in dense.state_dict().items())
    hyper = registry[key](converted, mode="hyper")
    assert any(isinstance(module, HyperLinear) for module in hyper.modules())


def test_builders_take_a_file_on_the_hub(hub: FakeHub, published: Published) -> None:
    pytest.importorskip("segment_anything_hq")
    pytest.importorskip("sam2")
    _, converted = published("sam_hq_vit_tiny")
    hub.add("me/tiny", {"model.bhk": converted})
    model = sam_hq_model_registry["vit_tiny"](checkpoint="hf://me/tiny", mode="dense")
    decoded = bhk.load_state_dict(converted)
    assert all(torch.equal(tensor, decoded[name]) for name, tensor in model.state_dict().items())
    _, converted = published("sam2.1_hiera_tiny")
    hub.add("me/hiera", {"tiny.bhk": converted})
    config = "configs/sam2.1/sam2.1_hiera_t.yaml"
    asked = build_sam2(config, "hf://me/hiera/tiny.bhk", device="cpu")
    assert any(isinstance(module, HyperLinear) for module in asked.modules())
    with pytest.raises(WrongModelError, match=r"holds SAM2\.1-T, but 'vit_h' is SAM-H"):
        sam_model_registry["vit_h"](checkpoint="me/hiera")
    with pytest.raises(HubError, match="me/none"):
        sam_model_registry["vit_h"](checkpoint="hf://me/none")


def test_without_a_checkpoint_the_package_builds_it() -> None:
    pytest.importorskip("segment_anything_hq")
    model = sam_hq_model_registry["vit_tiny"]()
    assert not any(tensor.is_meta for tensor in model.state_dict().values())


def test_a_file_of_another_model_is_refused(published: Published, small: Path) -> None:
    with pytest.raises(WrongModelError, match=r"small\.bhk holds SAM, of no published size, but 'vit_b' is SAM-B"):
        sam_model_registry["vit_b"](checkpoint=small)
    _, converted = published("mobile_sam")
    with pytest.raises(WrongModelError, match="holds MobileSAM, but 'vit_tiny' is SAM-HQ-Tiny"):
        sam_hq_model_registry["vit_tiny"](checkpoint=converted)
    with pytest.raises(WrongModelError, match="but 'default' is SAM-H"):
        sam_model_registry["default"](checkpoint=converted)


def test_a_file_that_does_not_name_its_model_is_judged_by_its_tensors(tmp_path: Path) -> None:
    pytest.importorskip("segment_anything_hq")
    torch.save({"layer.weight": torch.ones(40, 40)}, tmp_path / "a.pth")
    bhk.convert(tmp_path / "a.pth")
    with pytest.raises(MismatchError):
        sam_model_registry["vit_t"](checkpoint=tmp_path / "a.bhk")


def test_the_region_proposal_head_of_edge_sam_is_ignored(tmp_path: Path, install: Callable[[str, str], None]) -> None:
    install(
        "edge_sam",
        "from sam.state_dicts import module_of\n"
        "sam_model_registry = {'edge_sam': lambda checkpoint=None: module_of('edge_sam')}",
    )
    tensors = sam_model_registry["edge_sam"]().state_dict()
    torch.save({**tensors, "rpn_head.conv.weight": torch.ones(3), "fpn.w": torch.ones(2)}, tmp_path / "rpn.pth")
    torch.save({**tensors, "neck.weight": torch.ones(3)}, tmp_path / "more.pth")
    converted = bhk.convert(tmp_path / "rpn.pth").path
    assert bhk.inspect(converted).title == "EdgeSAM-RPN"
    for model in (sam_model_registry["edge_sam"](converted, mode="dense"), bhk.load(converted, mode="dense")):
        assert model.state_dict().keys() == tensors.keys()
    report = bhk.convert(tmp_path / "more.pth")
    assert bhk.inspect(report.path).title == "based on EdgeSAM, with 1 further tensor"
    assert "neck.weight" in report.warnings[0]
    with pytest.raises(UnknownModelError, match=r"based on EdgeSAM, with 1 further tensor \(neck\.weight\)"):
        bhk.load(report.path)


@pytest.mark.parametrize("build", [build_sam2, build_sam2_video_predictor])
def test_sam2_takes_a_bhk_file_too(build: Any, published: Published) -> None:
    pytest.importorskip("sam2")
    checkpoint, converted = published("sam2.1_hiera_tiny")
    config = "configs/sam2.1/sam2.1_hiera_t.yaml"
    expected = build(config, str(checkpoint), device="cpu")
    model = build(config, ckpt_path=str(converted), device="cpu", mode="train")
    assert type(model) is type(expected)
    assert model.training
    assert any(isinstance(module, HyperLinear) for module in model.modules())
    assert not any(tensor.is_meta for tensor in model.state_dict().values())


def test_a_file_of_another_sam2_is_refused(published: Published, small: Path) -> None:
    pytest.importorskip("sam2")
    _, converted = published("sam2.1_hiera_tiny")
    for config, path, held in (
        ("configs/sam2/sam2_hiera_t.yaml", converted, "SAM2.1-T"),
        ("configs/sam2.1/sam2.1_hiera_s.yaml", converted, "SAM2.1-T"),
        ("configs/sam2.1/sam2.1_hiera_s.yaml", small, "SAM, of no published size"),
    ):
        with pytest.raises(WrongModelError, match=f"holds {held}, but {config} is another model"):
            build_sam2(config, path, device="cpu")


def test_a_fork_of_sam2_keeps_its_configurations_elsewhere(
    tmp_path: Path, install: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands for MedSAM2's package, which is called sam2, too, and lacks the configurations of the original."""
    pytest.importorskip("hydra")
    for name in [name for name in sys.modules if name.partition(".")[0] == "sam2"]:
        monkeypatch.delitem(sys.modules, name)
    install("sam2", "")
    (tmp_path / "sam2" / "build_sam.py").write_text(
        "from hydra.errors import MissingConfigException\n"
        "def build_sam2(config_file, checkpoint, device, **options):\n"
        "    raise MissingConfigException(f'not found: {config_file}', config_file)\n"
    )
    with pytest.raises(
        ConfigurationError, match=r"no configuration configs/sam2\.1/sam2\.1_hiera_t\.yaml; it has none"
    ):
        build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml")
    (tmp_path / "sam2" / "configs").mkdir()
    (tmp_path / "sam2" / "configs" / "sam2.1_hiera_t512.yaml").write_text("model: {}")
    assert given_configuration("sam2.1_hiera_t512").document == {"model": {}}
    with pytest.raises(
        ConfigurationError, match=r"cannot use .*hiera_t512.yaml: not found: configs/sam2\.1_hiera_t512"
    ):
        build_sam2("sam2.1_hiera_t512.yaml")
