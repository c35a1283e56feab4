from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from bhk.base.packages import MissingPackageError, is_installed
from bhk.container.header import ModelEntry
from bhk.nn import weights_on_meta
from bhk.sam.architecture import Published
from bhk.sam.build import UnknownModelError, build_model
from bhk.sam.configuration import Configuration
from bhk.sam.packages import EFFICIENT_SAM
from bhk.sam.recognise import recognise
from bhk.sam.settings import plain_settings
from bhk.sam.variants import VARIANTS, is_buildable, packages_of
from bhk.tasks.models import models
from sam.state_dicts import NAMES, shapes_of

Install = Callable[[str, str], None]

_OF_INSTALLABLE = [
    name
    for name in NAMES
    if not name.startswith(("edge_sam", "efficient_sam")) and not isinstance(VARIANTS[name].architecture, Published)
]
_SMALL = {
    "embed_dim": 64,
    "depth": 3,
    "num_heads": 2,
    "global_attn_indexes": [1],
    "image_size": 128,
    "window_size": 4,
    "prompt_embed_dim": 64,
    "mask_in_chans": 8,
    "decoder_depth": 1,
    "decoder_mlp_dim": 96,
    "num_multimask_outputs": 2,
    "iou_head_depth": 4,
    "iou_head_hidden_dim": 32,
}  # fmt: skip


def _build(entry: ModelEntry) -> nn.Module:
    with weights_on_meta():
        return build_model(entry)


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", _OF_INSTALLABLE)
def test_a_built_module_has_the_names_and_shapes_of_the_published_checkpoint(name: str) -> None:
    shapes = shapes_of(name)
    found = recognise(shapes, Configuration("its name", variant=name))
    assert found is not None
    assert found.entry.variant == name
    pytest.importorskip(packages_of(found.entry)[-1].name)
    model = _build(found.entry)
    assert _shapes(model) == shapes
    assert not model.training


def test_mobile_sam_v2_has_the_modules_of_sam() -> None:
    pytest.importorskip("segment_anything")
    odd = {"prompt_encoder": "PromtEncoder", "mask_decoder": "MaskDecoder"}
    parts = [(name.partition("."), shape) for name, shape in shapes_of("sam_vit_h").items()]
    shapes = {f"{odd[module]}.{rest}": shape for (module, _, rest), shape in parts if module in odd}
    found = recognise(shapes)
    assert found is not None
    assert found.entry.variant == "mobile_sam_v2"
    assert _shapes(_build(found.entry)) == shapes


def test_an_image_encoder_alone_is_a_model_too() -> None:
    pytest.importorskip("segment_anything")
    start = "image_encoder."
    shapes = {name[len(start) :]: shape for name, shape in shapes_of("sam_vit_h").items() if name.startswith(start)}
    found = recognise(shapes)
    assert found is not None
    assert found.entry.variant == "sam_encoder"
    assert _shapes(_build(found.entry)) == shapes


@pytest.mark.parametrize(
    ("package", "name"), [("segment_anything", "sam_vit_b"), ("segment_anything_hq", "sam_hq_vit_b")]
)
def test_a_vision_transformer_equals_the_one_its_package_builds(package: str, name: str) -> None:
    original = pytest.importorskip(package)
    found = recognise(shapes_of(name))
    assert found is not None
    with weights_on_meta():
        expected = original.sam_model_registry["vit_b"]()
    built: Any = _build(found.entry)
    assert repr(built) == repr(expected)
    assert torch.equal(built.pixel_mean, expected.pixel_mean)
    assert torch.equal(built.pixel_std, expected.pixel_std)
    assert built.prompt_encoder.image_embedding_size == expected.prompt_encoder.image_embedding_size
    assert [(block.window_size, block.attn.num_heads) for block in built.image_encoder.blocks] == [
        (block.window_size, block.attn.num_heads) for block in expected.image_encoder.blocks
    ]


@pytest.mark.parametrize(
    ("family", "package"), [("sam", "segment_anything"), ("sam_hq", "segment_anything_hq"),
                            ("transformers_sam", "transformers"), ("transformers_sam_hq", "transformers")]
)  # fmt: skip
def test_any_size_is_read_from_shapes_and_built_again(family: str, package: str) -> None:
    pytest.importorskip(package)
    shapes = _shapes(_build(ModelEntry(family, None, _SMALL)))
    found = recognise(shapes)
    assert found is not None
    assert found.entry.family == family
    assert found.entry.arguments.items() >= _SMALL.items()
    assert _shapes(_build(found.entry)) == shapes


@pytest.mark.parametrize("kind", ["Sam", "SamHQ"])
def test_models_of_transformers_have_the_configuration_they_were_saved_with(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    config_type = getattr(transformers, f"{kind}Config")
    decoder = {
        "hidden_size": 64,
        "mlp_dim": 128,
        "iou_head_hidden_dim": 32,
        **({"vit_dim": 64} if "HQ" in kind else {}),
    }
    config = config_type(
        vision_config={
            "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 128, "window_size": 4,
            "output_channels": 64, "num_pos_feats": 32, "global_attn_indexes": [1],
        },
        prompt_encoder_config={"hidden_size": 64, "image_size": 128},
        mask_decoder_config=decoder,
    )  # fmt: skip
    original = getattr(transformers, f"{kind}Model")(config)
    shapes = _shapes(original)
    del shapes["prompt_encoder.shared_embedding.positional_embedding"]  # tied, and in no safetensors file
    found = recognise(shapes)
    assert found is not None
    built: Any = _build(found.entry)
    assert type(built) is type(original)
    assert built.config.to_dict() == original.config.to_dict()
    embeddings = (
        module.positional_embedding for module in (built.shared_image_embedding, built.prompt_encoder.shared_embedding)
    )
    assert len({id(embedding) for embedding in embeddings}) == 1


def test_a_sam2_video_model_loads_as_a_sam2() -> None:
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        video = transformers.Sam2VideoModel(transformers.Sam2VideoConfig())
    shapes = _shapes(video)
    found = recognise(shapes, Configuration("config.json", plain_settings(video.config.to_dict())))
    assert found is not None
    beyond = shapes.keys() - _shapes(_build(found.entry)).keys()
    assert beyond
    assert all(any(fnmatchcase(name, pattern) for pattern in found.family.extra) for name in beyond)


@pytest.mark.parametrize("version", ["sam2", "sam2.1"])
def test_the_release_of_sam2_chooses_the_configuration(version: str) -> None:
    pytest.importorskip("sam2")
    name = f"{version}_hiera_tiny"
    found = recognise(shapes_of(name), Configuration("its name", variant=name))
    assert found is not None
    model: Any = _build(found.entry)
    assert model.add_tpos_enc_to_obj_ptrs == (version == "sam2.1")


_PACKAGES = {
    "mobile_sam": "sam_model_registry = {'vit_t': lambda checkpoint=None: nn.Linear(2, 2)}",
    "tinysam": "sam_model_registry = {'vit_t': lambda checkpoint=None: nn.Linear(2, 2)}",
    "edge_sam": "sam_model_registry = {'edge_sam': lambda checkpoint=None, upsample_mode='bicubic': nn.Linear(2, 2)}",
    "mobilesamv2": (
        "sam_model_registry = {'PromptGuidedDecoder': lambda checkpoint=None: "
        "{'PromtEncoder': nn.Linear(2, 3), 'MaskDecoder': nn.Linear(3, 2)}}"
    ),
}


@pytest.mark.parametrize(
    ("package", "family", "names"),
    [
        ("mobile_sam", "mobile_sam", {"weight", "bias"}),
        ("tinysam", "mobile_sam", {"weight", "bias"}),
        ("edge_sam", "edge_sam", {"weight", "bias"}),
        (
            "mobilesamv2",
            "mobile_sam_v2",
            {"PromtEncoder.weight", "PromtEncoder.bias", "MaskDecoder.weight", "MaskDecoder.bias"},
        ),
    ],
)
def test_packages_build_by_their_registries(package: str, family: str, names: set[str], install: Install) -> None:
    install(package, _PACKAGES[package])
    variant = package if package in VARIANTS else None
    model = _build(ModelEntry(family, variant, _published_arguments(family)))
    assert set(model.state_dict()) == names


def _published_arguments(family: str) -> dict[str, Any]:
    variant = next(variant for variant in VARIANTS.values() if variant.family == family)
    arguments: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(variant.architecture))
    return arguments


def test_efficient_sam_is_built_without_a_checkpoint(tmp_path: Path, install: Install) -> None:
    install("efficient_sam", "")
    (tmp_path / "efficient_sam" / "efficient_sam.py").write_text(
        "from torch import nn\n"
        "def build_efficient_sam(encoder_patch_embed_dim, encoder_num_heads, checkpoint=None):\n"
        "    assert checkpoint is None\n"
        "    return nn.Linear(encoder_patch_embed_dim, encoder_num_heads)\n"
    )
    model: Any = _build(ModelEntry("efficient_sam", "efficient_sam_vits", {"embed_dim": 384, "depth": 12}))
    assert (model.in_features, model.out_features) == (384, 6)


def test_a_missing_package_is_named_with_advice() -> None:
    if is_installed(EFFICIENT_SAM):
        pytest.skip("efficient_sam is installed")
    with pytest.raises(MissingPackageError, match=r"needs the package efficient_sam, .* pip install git\+https://"):
        build_model(ModelEntry("efficient_sam", "efficient_sam_vitt", {"embed_dim": 192}))


def test_a_package_that_fails_to_import_is_named_with_the_reason(install: Install) -> None:
    install("edge_sam", "import mmdet_that_nobody_has")
    with pytest.raises(MissingPackageError, match=r"edge_sam is installed but cannot be imported .*mmdet_that_nobody"):
        build_model(ModelEntry("edge_sam", "edge_sam", _published_arguments("edge_sam")))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (ModelEntry("sam9", "sam3_large"), "family 'sam9'"),
        (ModelEntry("sam"), "are not a whole SAM"),
        (ModelEntry("sam", None, {"embed_dim": 64}), "missing required field `depth`"),
        (ModelEntry("sam", None, {**_SMALL, "code": "os.system"}), "unknown field `code`"),
        (ModelEntry("sam", None, {**_SMALL, "embed_dim": "64"}), "Expected `int`"),
        (ModelEntry("sam", None, {**_SMALL, "depth": 10**9}), "`int` <= 256"),
        (ModelEntry("sam", None, {**_SMALL, "global_attn_indexes": [1] * 257}), "length <= 256"),
        (
            ModelEntry("sam", None, {**_SMALL, "image_size": 1 << 14, "patch_size": 1, "embed_dim": 1 << 14}),
            "cannot build a model",
        ),
        (ModelEntry("sam", None, {**_SMALL, "prompt_embed_dim": 62}), "cannot build a model of the file's sizes"),
        (ModelEntry("mobile_sam", None, {"embed_dims": [8, 8, 8, 8]}), "unpublished sizes"),
        (
            ModelEntry("sam2", None, {"embed_dim": 96, "stages": [1, 1], "release": "2"}),
            "arguments that no SAM2 has",
        ),
    ],
)
def test_models_that_cannot_be_built_are_refused_with_the_reason(entry: ModelEntry, message: str) -> None:
    with pytest.raises(UnknownModelError, match=message):
        _build(entry)


def test_another_package_of_the_same_name_is_not_taken_for_a_models_own() -> None:
    entry = ModelEntry("sam_med2d", "sam_med2d", {"name": "sam_med2d"})
    assert is_buildable(entry)
    with pytest.raises(
        MissingPackageError, match=r"segment_anything, but the one .* is another, without modeling/sam_model"
    ):
        build_model(entry)
    (model,) = (model for model in models().models if model.name == "sam_med2d")
    assert model.installed is None


def test_lite_medsam_is_put_together_from_its_encoder(install: Install) -> None:
    encoder = (
        "\nclass TinyViT(nn.Linear):\n    def __init__(self, img_size, **_):\n        super().__init__(img_size, 1)"
    )
    install("tiny_vit_sam", encoder)
    built: Any = _build(ModelEntry("lite_medsam", "lite_medsam", {"name": "lite_medsam"}))
    others = {name: shape for name, shape in shapes_of("lite_medsam").items() if not name.startswith("image_encoder.")}
    found = {name: shape for name, shape in _shapes(built).items() if not name.startswith("image_encoder.")}
    assert found == others
    assert built.prompt_encoder.input_image_size == (256, 256)
