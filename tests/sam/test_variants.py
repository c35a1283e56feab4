from __future__ import annotations

import json
import math
import re

import pytest

from bhk.container.header import ModelEntry
from bhk.sam.names import _names
from bhk.sam.variants import FAMILIES, VARIANTS, find_variant, published_as, published_files, published_with, title_of
from sam.state_dicts import NAMES, shapes_of


def test_every_list_of_a_published_checkpoint_is_a_variant() -> None:
    assert set(NAMES) <= set(VARIANTS)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_the_elements_of_the_published_checkpoint(name: str) -> None:
    assert VARIANTS[name].parameters == sum(math.prod(shape) for shape in shapes_of(name).values())


def test_families_are_those_of_variants() -> None:
    assert set(FAMILIES) == {variant.family for variant in VARIANTS.values()}
    for variant in VARIANTS.values():
        assert variant.architecture is None or type(variant.architecture) is FAMILIES[variant.family].type


def test_the_most_demanding_family_comes_first() -> None:
    """Otherwise `recognise`, which takes the first family with all marks present, would never find a later one."""
    families = list(FAMILIES.values())
    for i, later in enumerate(families):
        for earlier in families[:i]:
            covered = all(any(mark.startswith(theirs) for mark in later.marks) for theirs in earlier.marks)
            told_apart = {earlier.name, later.name} <= _names().keys()  # by which names they do not share
            assert told_apart or not covered, f"{earlier.name} hides {later.name}"


def test_published_ratios_are_those_of_the_eighteen_models() -> None:
    assert sum(variant.published_ratio is not None for variant in VARIANTS.values()) == 18


def test_models_that_cannot_be_told_apart_are_named_together() -> None:
    assert title_of(ModelEntry("sam", "sam_vit_b")) == "SAM-B"
    assert title_of(ModelEntry("mobile_sam", "mobile_sam")) == "MobileSAM or TinySAM"
    assert title_of(ModelEntry("sam", "sam_vit_h")) == "SAM-H"
    assert title_of(ModelEntry("edge_sam", "edge_sam_rpn")) == "EdgeSAM-RPN"


def test_published_files_are_those_of_all_that_look_the_same() -> None:
    assert published_files(ModelEntry("sam", "sam_vit_b")) == ("sam_vit_b_01ec64.pth",)
    assert published_files(ModelEntry("sam", "medsam", {"embed_dim": 768})) == ("medsam_vit_b.pth",)
    assert published_files(ModelEntry("mobile_sam", "mobile_sam")) == ("mobile_sam.pt", "tinysam_42.3.pth")
    assert published_files(ModelEntry("edge_sam", "edge_sam")) == ("edge_sam.pth", "edge_sam_3x.pth")
    assert published_files(ModelEntry("edge_sam", "edge_sam_rpn")) == ()
    assert published_files(ModelEntry("sam2", "sam_vit_b")) == published_files(ModelEntry("sam", None)) == ()


def test_a_hash_names_one_variant() -> None:
    known = {variant.sha256: variant for variant in VARIANTS.values() if variant.sha256}
    assert len(known) == 12
    for digest, variant in known.items():
        assert re.fullmatch("[0-9a-f]{64}", digest)
        assert published_with(digest) is variant
    assert published_with("") is None


@pytest.mark.parametrize("variant", [None, "sam2_hiera_tiny", "sam_vit_g"])
def test_unknown_models_have_a_title_too(variant: str | None) -> None:
    assert title_of(ModelEntry("sam", variant)) == "SAM, of no published size"
    assert title_of(ModelEntry("sam9", variant)) == "sam9, which this version does not know"


def test_a_variant_is_found_by_family_and_architecture() -> None:
    for variant in VARIANTS.values():
        if variant.architecture is not None:
            found = find_variant(variant.family, variant.architecture)
            assert found is not None or variant.prepares
            assert found is None or (found.architecture == variant.architecture and not found.prepares)
    assert find_variant("sam", FAMILIES["mobile_sam"].type()) is None  # type: ignore[call-arg]


def test_ratios_are_of_variants() -> None:
    from importlib import resources

    ratios = json.loads(resources.files("bhk.sam").joinpath("ratios.json").read_text())
    assert set(ratios) <= set(VARIANTS)
    assert all(ratio > 1 for ratio in ratios.values())


def test_names_are_plain() -> None:
    assert all(re.fullmatch(r"[a-z0-9_.]+", name) for name in (*FAMILIES, *VARIANTS))


def test_repositories_of_originals_are_different() -> None:
    hubs = [variant.hub for variant in VARIANTS.values() if variant.hub]
    assert len(set(hubs)) == len(hubs)
    assert all(re.fullmatch(r"[\w-]+/[\w.-]+", hub) for hub in hubs)


def test_the_name_of_a_file_tells_twins_apart() -> None:
    assert published_as("sam", "sam_vit_b", "medsam_vit_b.pth") is VARIANTS["medsam"]
    assert published_as("sam", "sam_vit_b", "sam_vit_b_01ec64.pth") is VARIANTS["sam_vit_b"]
    assert published_as("sam", "sam_vit_b", "sam_vit_l_0b3195.pth") is None
    assert published_as("sam", None, "sam_vit_b_01ec64.pth") is None
    assert published_as("transformers_sam", "transformers_sam", "model.safetensors") is None


def test_a_model_of_other_settings_than_the_published_ones_is_called_by_them() -> None:
    settings = VARIANTS["sam2.1_hiera_tiny"].settings
    assert settings is not None

    def entry(**changed: object) -> ModelEntry:
        return ModelEntry("sam2", "sam2.1_hiera_tiny", {"config": {**settings, **changed}})

    assert (title_of(entry()), published_files(entry())) == ("SAM2.1-T", ("sam2.1_hiera_tiny.pt",))
    assert title_of(entry(image_size=512)) == "SAM2.1-T at 512 pixels"
    assert title_of(entry(num_maskmem=3)) == "SAM2.1-T, of other settings"
    assert title_of(ModelEntry("sam2", "sam2.1_hiera_tiny")) == "SAM2.1-T, of unknown settings"
    assert published_files(entry(image_size=512)) == ()
