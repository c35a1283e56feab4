from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import yaml
from tasks.checkpoints import draw, save, small
from torch import nn

import bhk
from bhk.checkpoint import CheckpointError
from bhk.container.errors import FormatError
from bhk.container.header import ModelEntry
from bhk.nn import weights_on_meta
from bhk.sam.build import UnknownModelError, build_model
from bhk.sam.checkpoints import open_tensors, read_checkpoint
from bhk.sam.configuration import ConfigurationError, given_configuration
from bhk.sam.load import model_entry
from bhk.sam.recognise import recognise
from bhk.sam.sam2_models import SAM2_TREE
from bhk.sam.tree import differences, settings_of
from bhk.sam.variants import VARIANTS, title_of
from bhk.tasks.export import UnnamedModelError, name_in_folder
from sam import models
from sam.state_dicts import shapes_of


def test_an_unknown_checkpoint_keeps_its_names(tmp_path: Path) -> None:
    tensors = {f"sam.{name}": tensor for name, tensor in small().items()}
    checkpoint, recognised = read_checkpoint(save(tmp_path / "a.pth", tensors))
    assert recognised is None
    assert list(checkpoint.tensors) == list(tensors)


def test_the_prefixes_of_trainer_and_wrapper_add_up(tmp_path: Path) -> None:
    tied = torch.ones(4)
    names = ("mask_decoder.iou_token.weight", "mask_decoder.mask_tokens.weight", "prompt_encoder.no_mask_embed.weight")
    tensors = {f"module.sam.{name}": tied for name in names[:2]} | {f"module.sam.{names[2]}": torch.zeros(2)}
    checkpoint, recognised = read_checkpoint(save(tmp_path / "a.pth", tensors))
    assert recognised is not None
    assert list(checkpoint.tensors) == [names[0], names[2]]
    assert checkpoint.aliases == {names[0]: (names[1],)}
    assert checkpoint.layout.prefix == "module.sam."


def test_both_kinds_of_files_open_with_all_names(tmp_path: Path) -> None:
    tied = draw({"x": (40, 40)})["x"]
    source = save(tmp_path / "a.pth", {"b.weight": tied, "a.weight": tied, "c.steps": torch.tensor(3)})
    report = bhk.convert(source)
    for path in (source, report.path):
        with open_tensors(path) as file:
            assert file.label == path.name
            assert set(file.names) == {"a.weight", "b.weight", "c.steps"}
            assert torch.equal(file.tensor("a.weight"), file.tensor("b.weight"))
            assert torch.equal(file.tensor("c.steps"), torch.tensor(3))


def test_a_file_of_neither_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b.bhk").write_bytes(b"\x89BHK\r\n\x1a\n" + bytes(100))
    with pytest.raises(CheckpointError, match="text file"), open_tensors(tmp_path / "a.txt"):
        pass
    with pytest.raises(FormatError), open_tensors(tmp_path / "b.bhk"):
        pass


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    pytest.importorskip("segment_anything")
    return dict(models.small_sam().state_dict())


@pytest.mark.parametrize("prefix", ["net.", "model.module.", "base_model.model.", "detector.", "a.b.c."])
def test_any_prefix_before_all_names_is_cut_off(prefix: str, tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    named = {prefix + name: tensor for name, tensor in tensors.items()}
    checkpoint, recognised = read_checkpoint(save(tmp_path / "a.pth", {"state_dict": named}))
    assert recognised is not None
    assert (recognised.fault, recognised.beside, recognised.prefix) == (None, (), "")
    assert list(checkpoint.tensors) == list(tensors)
    assert {checkpoint.layout.flat(name) for name in tensors} == set(named)


@pytest.mark.parametrize("part", ["_orig_mod", "module", "_fsdp_wrapped_module"])
def test_wrappers_within_the_names_are_cut_out(part: str, tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    named = {name.replace("image_encoder.", f"image_encoder.{part}."): tensor for name, tensor in tensors.items()}
    path = save(tmp_path / "a.pth", named)
    checkpoint, recognised = read_checkpoint(path)
    assert recognised is not None
    assert recognised.fault is None
    assert list(checkpoint.tensors) == list(tensors)
    bhk.export(bhk.convert(path).path, tmp_path / "again.pth")
    assert set(torch.load(tmp_path / "again.pth")) == set(named)


def test_a_model_beside_other_tensors_is_loaded_alone(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    named = {f"model.{name}": tensor for name, tensor in tensors.items()} | {"loss.weight": torch.ones(2)}
    path = save(tmp_path / "a.pth", named)
    report = bhk.convert(path)
    assert "below 'model.', without 1 tensor beside it (loss.weight)" in report.warnings[0]
    assert bhk.inspect(report.path).total.layers == len(named)
    for source in (path, report.path):
        loaded = bhk.load(source, mode="dense")
        assert loaded.state_dict().keys() == tensors.keys()
    with pytest.raises(UnnamedModelError):
        name_in_folder(report.path, tmp_path)


def test_two_models_of_a_kind_are_asked_about(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    named = {f"{role}.{name}": tensor.clone() for role in ("teacher", "student") for name, tensor in tensors.items()}
    path = save(tmp_path / "a.pth", named)
    recognised = read_checkpoint(path)[1]
    assert recognised is not None
    assert "several models of the kind, below teacher., student." in str(recognised.fault)
    checkpoint, recognised = read_checkpoint(path, key="student")
    assert recognised is not None
    assert recognised.fault is None
    assert checkpoint.layout.prefix == "student."


def test_a_model_with_further_tensors_is_based_on_another(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {**tensors, "mask_decoder.custom.weight": torch.ones(40, 40)})
    report = bhk.convert(path)
    assert "based on SAM, with 1 further tensor (mask_decoder.custom.weight)" in report.warnings[0]
    assert bhk.inspect(report.path).title == "based on SAM, of no published size, with 1 further tensor"
    for source in (path, report.path):
        with pytest.raises(UnknownModelError, match=r"based on SAM.*with these lines"):
            bhk.load(source)


def test_what_only_looks_like_a_model_of_the_family_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", draw({"x.mask_decoder.w.weight": (40, 40), "y.weight": (40, 40)}))
    (warning,) = bhk.convert(path).warnings
    assert "not recognised as a Segment Anything model, because what is below 'x.'" in warning
    assert "bhk.load_into" in warning


_TINY = shapes_of("mobile_sam")


@pytest.mark.parametrize(("name", "title"), [("tinysam_42.3.pth", "TinySAM"), ("my-Mobile_SAM.pt", "MobileSAM")])
def test_mobile_sam_and_tiny_sam_are_told_apart_by_name(name: str, title: str, tmp_path: Path) -> None:
    recognised = read_checkpoint(save(tmp_path / name, {key: torch.zeros(shape) for key, shape in _TINY.items()}))[1]
    assert recognised is not None
    assert (recognised.fault, title_of(recognised.entry)) == (None, title)
    assert f"taken for {title} because of its name" in str(recognised.note)


@pytest.mark.parametrize("config", ["mobile_sam", "tinysam"])
def test_a_file_says_which_of_two_equal_models_it_holds(config: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {key: torch.zeros(shape) for key, shape in _TINY.items()})
    bhk.convert(path, tmp_path / "a.bhk", config=config)
    with bhk.open(tmp_path / "a.bhk") as file:
        assert model_entry(file.container).variant == config


def test_mobile_sam_and_tiny_sam_are_asked_about(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {key: torch.zeros(shape) for key, shape in _TINY.items()})
    recognised = read_checkpoint(path)[1]
    assert recognised is not None
    assert title_of(recognised.entry) == "MobileSAM or TinySAM"
    assert "answer differently" in str(recognised.fault)
    for config, title in (("mobile_sam", "MobileSAM"), ("tinysam", "TinySAM")):
        chosen = read_checkpoint(path, config=config)[1]
        assert chosen is not None
        assert (chosen.fault, title_of(chosen.entry)) == (None, title)
    with pytest.raises(ConfigurationError, match="sam_vit_b is no configuration"):
        read_checkpoint(path, config="sam_vit_b")


@pytest.mark.parametrize(
    ("name", "side", "title", "note"),
    [
        ("medsam_vit_b.pth", 1024, "MedSAM", "taken for MedSAM because of its name"),
        ("my_medsam_liver.pth", 1024, "SAM-B", "medsam for MedSAM"),
        ("sam_vit_b_01ec64.pth", 1024, "SAM-B", "None"),
        ("tuned.pth", 1024, "SAM-B", "need another way, say so (--config, or config= in Python): medsam for MedSAM"),
        ("left-sam_b.pth", 256, "SAM, of no published size", "ft_sam for FT-SAM"),
        ("tuned.pth", 256, "SAM, of no published size", "ft_sam for FT-SAM"),
    ],
)
def test_the_name_tells_how_pictures_are_prepared(name: str, side: int, title: str, note: str, tmp_path: Path) -> None:
    path = save(tmp_path / name, _vit_b(side))
    recognised = read_checkpoint(path)[1]
    assert recognised is not None
    assert (recognised.fault, title_of(recognised.entry)) == (None, title)
    assert note in str(recognised.note)


def test_how_pictures_are_prepared_is_kept_and_can_be_chosen(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", _vit_b(256))
    bhk.convert(path, tmp_path / "plain.bhk")
    bhk.convert(path, tmp_path / "known.bhk", config="ft_sam")
    for name, config, expected in [
        ("plain.bhk", None, None),
        ("plain.bhk", "ft_sam", "ft_sam"),
        ("known.bhk", None, "ft_sam"),
    ]:
        with bhk.open(tmp_path / name) as file, weights_on_meta():
            built = build_model(model_entry(file.container, config))
        assert getattr(built, "prepared_as", None) == expected
        again = read_checkpoint(built.to_empty(device="cpu"))[1]
        assert again is not None
        assert again.entry.variant == expected


def _vit_b(side: int) -> dict[str, torch.Tensor]:
    """Return tensors with the names and shapes of SAM-B for pictures of this size, each of one number for all."""
    grid = side // 16
    shapes = dict(shapes_of("sam_vit_b"))
    shapes["image_encoder.pos_embed"] = (1, grid, grid, 768)
    for block in (2, 5, 8, 11):
        for axis in "hw":
            shapes[f"image_encoder.blocks.{block}.attn.rel_pos_{axis}"] = (2 * grid - 1, 64)
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def _small_sam2() -> tuple[nn.Module, dict[str, object]]:
    """Return a SAM 2 of no published size at 128 pixels, and its YAML file's content."""
    settings = msgspec.json.decode(msgspec.json.encode(VARIANTS["sam2.1_hiera_tiny"].settings))
    trunk = settings["image_encoder"]["trunk"]
    trunk |= {"embed_dim": 16, "stages": [1, 1, 2, 1], "global_att_blocks": [3]}
    settings["image_encoder"]["neck"]["backbone_channel_list"] = [128, 64, 32, 16]
    settings["memory_attention"]["num_layers"] = 1
    settings["image_size"] = 128
    return build_model(ModelEntry("sam2", None, {"config": settings})), settings


def test_the_yaml_file_of_a_sam2_says_what_its_tensors_do_not(tmp_path: Path) -> None:
    pytest.importorskip("sam2")
    model, settings = _small_sam2()
    path = save(tmp_path / "tuned.pt", {"model": model.state_dict()})
    (warning,) = bhk.convert(path, tmp_path / "unknown.bhk").warnings
    assert "no tensor shows its settings" in warning
    with pytest.raises(UnknownModelError, match="no tensor shows its settings"):
        bhk.load(tmp_path / "unknown.bhk")
    document = {"model": {"_target_": "sam2.modeling.sam2_base.SAM2Base", **settings}}
    (tmp_path / "c").mkdir()
    config = tmp_path / "c" / "own.yaml"
    config.write_text(yaml.safe_dump(document))
    assert bhk.convert(path, tmp_path / "known.bhk", config=config).warnings == ()
    loaded = [bhk.load(tmp_path / "known.bhk"), bhk.load(tmp_path / "unknown.bhk", config=config)]
    config.rename(tmp_path / "tuned.yaml")  # beside the checkpoint
    for other in (*loaded, bhk.load(path)):
        assert other.image_size == 128
        assert [block.window_size for block in other.image_encoder.trunk.blocks] == [8, 8, 4, 0, 14]
    with pytest.raises(ConfigurationError, match="another size"):
        bhk.load(path, config="sam2.1_hiera_t.yaml")


def test_the_yaml_file_of_an_efficient_tam_is_found_beside_it_and_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = VARIANTS["efficienttam_ti_512x512"]
    shapes = shapes_of("efficienttam_ti")
    (tmp_path / "efficient_track_anything" / "configs").mkdir(parents=True)
    (tmp_path / "efficient_track_anything" / "__init__.py").touch()
    target = {"_target_": "efficient_track_anything.modeling.efficienttam_base.EfficientTAMBase"}
    text = yaml.safe_dump({"model": {**target, **msgspec.to_builtins(variant.settings), "image_size": 256}})
    for place in ("tuned.yaml", "efficient_track_anything/configs/tuned_256.yaml"):
        (tmp_path / place).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    path = save(tmp_path / "tuned.pt", {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()})
    for config, side in ((None, 256), ("tuned_256.yaml", 256), ("efficienttam_ti_512x512.yaml", 512)):
        recognised = read_checkpoint(path, config=config)[1]
        assert recognised is not None
        assert (recognised.fault, recognised.entry.arguments["config"]["image_size"]) == (None, side)


def test_yaml_files_of_other_names_beside_a_checkpoint_say_nothing_about_it(tmp_path: Path) -> None:
    model, settings = _small_sam2()
    path = save(tmp_path / "tuned.pt", {"model": model.state_dict()})
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"model": settings}))
    recognised = read_checkpoint(path)[1]
    assert recognised is not None
    assert recognised.asks


@pytest.mark.parametrize("text", ["a: !!bool x", "a: !!int ''", "a: !!timestamp foo", "- 1", "a: *b"])
def test_a_yaml_file_that_cannot_be_read_is_a_typed_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"a\.yaml"):
        given_configuration(tmp_path / "a.yaml")


def test_the_yaml_file_of_another_release_is_refused() -> None:
    shapes = shapes_of("sam2.1_hiera_tiny")
    found = recognise(shapes, given_configuration("sam2_hiera_t.yaml"))
    assert found is not None
    assert found.fault == "sam2_hiera_t.yaml describes another release of SAM 2"


def test_a_module_says_how_it_was_built() -> None:
    pytest.importorskip("sam2")
    published = VARIANTS["sam2.1_hiera_tiny"].settings
    assert published is not None
    with weights_on_meta():
        usual, other = (
            build_model(ModelEntry("sam2", None, {"config": {**published, **changed}}))
            for changed in ({}, {"image_size": 512, "multimask_min_pt_num": 1})
        )
    found = settings_of(other, usual, published, SAM2_TREE)
    assert found == {**published, "image_size": 512, "multimask_min_pt_num": 1}
    assert {name.rpartition(".")[2] for name in differences(other, usual)} >= {"image_size", "multimask_min_pt_num"}


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({"apply_postprocessing": False}, "SAM2.1-T, of other settings"),
        (
            {
                "hydra_overrides_extra": [
                    "model.memory_attention.layer.self_attention.rope_theta=500",
                    "model.memory_attention.layer.cross_attention.dropout=0.2",
                    "model.image_encoder.trunk.global_att_blocks=[5,7]",
                    "+model.image_encoder.trunk.window_spec=[8,4,7,7]",
                    "+model.memory_temporal_stride_for_eval=2",
                    "model.image_size=512",
                ]
            },
            "SAM2.1-T at 512 pixels",
        ),
    ],
)
def test_what_a_module_was_built_with_is_kept(options: dict[str, Any], title: str) -> None:
    build_sam = pytest.importorskip("sam2.build_sam")
    with weights_on_meta():
        module = build_sam.build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu", **options)
    recognised = read_checkpoint(module.to_empty(device="cpu"))[1]
    assert recognised is not None
    assert (recognised.fault, title_of(recognised.entry)) == (None, title)
    entry = msgspec.json.decode(msgspec.json.encode(recognised.entry), type=ModelEntry)
    with weights_on_meta():
        built = build_model(entry)
    assert list(differences(module, built)) == []
    attention: Any = built.memory_attention.layers[0].self_attn  # type: ignore[union-attr, index]
    assert attention.compute_cis.keywords["theta"] == (10000.0 if "apply_postprocessing" in options else 500)
    assert built.sam_mask_decoder.dynamic_multimask_via_stability == ("apply_postprocessing" not in options)  # type: ignore[union-attr]


def test_other_rotary_positions_are_a_difference() -> None:
    pytest.importorskip("sam2")
    published = VARIANTS["sam2.1_hiera_tiny"].settings
    assert published is not None
    with weights_on_meta():
        module, usual = (build_model(ModelEntry("sam2", None, {"config": dict(published)})) for _ in range(2))
    assert list(differences(module, usual)) == []
    attention = module.memory_attention.layers[0].self_attn
    attention.compute_cis = partial(attention.compute_cis, theta=500.0)
    assert list(differences(module, usual)) == ["memory_attention.layers.0.self_attn.compute_cis"]
