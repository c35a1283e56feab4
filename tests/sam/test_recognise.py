from __future__ import annotations

import json
from pathlib import Path

import pytest

from bhk.sam.recognise import recognise

_LISTS = sorted((Path(__file__).parent.parent / "data" / "state_dicts").glob("*.json"))


def _names(path: Path) -> list[str]:
    return [name for name, *_ in json.loads(path.read_text())["tensors"]]


@pytest.mark.parametrize("prefix", ["", "sam.", "model."])
@pytest.mark.parametrize("path", _LISTS, ids=lambda path: path.stem)
def test_published_checkpoints_are_recognised_behind_any_known_prefix(path: Path, prefix: str) -> None:
    found = recognise([prefix + name for name in _names(path)])
    assert found is not None
    assert found.family == ("sam2" if path.stem.startswith("sam2") else "sam")
    assert found.prefix == prefix


@pytest.mark.parametrize("path", _LISTS, ids=lambda path: path.stem)
def test_mask_decoder_and_prompt_encoder_are_delicate(path: Path) -> None:
    names = _names(path)
    found = recognise(names)
    assert found is not None
    delicate = {name.partition(".")[0] for name in names if found.is_delicate(name)}
    before = "sam_" if found.family == "sam2" else ""
    assert delicate == {f"{before}mask_decoder", f"{before}prompt_encoder"}


@pytest.mark.parametrize(
    ("names", "family", "delicate"),
    [
        # transformers
        (
            ["vision_encoder.pos_embed", "prompt_encoder.point_embed.0.weight", "mask_decoder.iou_token.weight"],
            "sam",
            [False, True, True],
        ),
        # MobileSAMv2, spelling included
        (["ImageEncoder.pos_embed", "PromtEncoder.w", "MaskDecoder.w"], "sam", [False, True, True]),
        (["image_encoder.trunk.w", "sam_mask_decoder.w", "memory_encoder.mask_decoder"], "sam2", [False, True, False]),
    ],
)
def test_other_layouts_are_recognised(names: list[str], family: str, delicate: list[bool]) -> None:
    found = recognise(names)
    assert found is not None
    assert (found.family, found.prefix) == (family, "")
    assert [found.is_delicate(name) for name in names] == delicate


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["weight"],
        ["embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight", "pooler.dense.weight"],
        # An image encoder alone, names that only contain the words, and prefixes that not every name has.
        ["image_encoder.pos_embed", "image_encoder.neck.0.weight"],
        ["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"],
        ["head.mask_decoder.weight", "my_mask_decoder.weight", "mask_decoders.0.weight"],
        ["sam.mask_decoder.weight", "other.weight"],
        ["other.mask_decoder.weight", "other.image_encoder.weight"],
    ],
)
def test_other_checkpoints_are_not_recognised(names: list[str]) -> None:
    assert recognise(names) is None
