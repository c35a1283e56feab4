"""The table of docs/models.md: what bhk does with each model of the family.

What is recognised, built and asked is what the tables of `bhk.sam` say, which tests compare with the real classes; masks and
ratios are those that were measured. `tools.result_tables` writes it.
"""

from __future__ import annotations

from bhk.sam.configuration import Configuration
from bhk.sam.recognise import recognise
from bhk.sam.variants import FAMILIES, VARIANTS, Variant, find_variant
from tools.speed_tables import Rows, line
from tools.state_dicts import NAMES, shapes_of

NONE = "–"
_NAMED = "tensors, name or `--config`"
_HEAD = (
    "| model | converts | recognised by | built with | mask IoU | logits | segment | video | transformers | ratio |",
    "|---|---|---|---|--:|--:|---|---|---|--:|",
)


def representative(variant: Variant) -> Variant:
    """Return the variant that stands for one with the same modules, such as SAM-H for MobileSAMv2 (ViT-H)."""
    found = find_variant(variant.family, variant.architecture)
    if found is None or variant.prepares:
        return variant
    return found if (found.packages, found.settings) == (variant.packages, variant.settings) else variant


def groups() -> dict[str, list[Variant]]:
    """Return the variants with the same modules, by the name of the one that stands for them."""
    found: dict[str, list[Variant]] = {}
    for variant in VARIANTS.values():
        found.setdefault(representative(variant).name, []).append(variant)
    return found


def models(masks: Rows, ratios: Rows, relatives: Rows) -> list[str]:
    """Return the table, one line for all models with the same modules.

    Args:
        masks: the rows of masks.csv.
        ratios: the rows of family.csv.
        relatives: the rows of relatives.csv, several for each model.
    """
    others = _worst(relatives)
    compared, converted = (others | {row["variant"]: row for row in rows} for rows in (masks, ratios))
    return [
        *_HEAD,
        *(line(_cells(alike, compared.get(name), converted.get(name)), bold=False) for name, alike in groups().items()),
    ]


def _worst(relatives: Rows) -> dict[str, dict[str, str]]:
    """Return a row for each model, with the prompts on which bhk and the authors' code are farthest apart."""
    found: dict[str, dict[str, str]] = {}
    for row in relatives:
        before = found.get(row["variant"], {"iou": row["iou"], "logits": row["logits_error"]})
        iou, logits = min(before["iou"], row["iou"], key=float), max(before["logits"], row["logits_error"], key=float)
        found[row["variant"]] = {"iou": iou, "logits": f"{float(logits):.1e}", "ratio": row["ratio"]}
    return found


def _cells(alike: list[Variant], masks: dict[str, str] | None, size: dict[str, str] | None) -> list[str]:
    first = alike[0]
    family = FAMILIES[first.family]
    packages = first.packages or family.packages
    classes = dict.fromkeys((*family.classes.values(), *family.video.values()))
    return [
        ", ".join(variant.title for variant in alike),
        "yes" if masks or size else NONE,
        recognised_by(first),
        " or ".join(f"`{package.name}`" for package in packages) or NONE,
        masks["iou"] if masks else NONE,
        masks["logits"] if masks else NONE,
        ", ".join(first.prompts or family.prompts) or NONE,
        "yes" if family.follows else NONE,
        ", ".join(f"`{name}`" for name in classes) or NONE,
        f"{float(size['ratio']):.2f}" if size else NONE,
    ]


def recognised_by(variant: Variant) -> str:
    """Return what tells a model of the family: its tensors, and what else bhk asks for.

    Raises:
        ValueError: its tensors are those of another model.
    """
    family = FAMILIES[variant.family]
    if family.classes:
        return "tensors" if family.read else "tensors, `config.json`"
    if variant.prepares:  # its tensors are those of another model
        return _NAMED
    shapes = _shapes(variant)
    found = recognise(shapes, Configuration(variant.title, variant=variant.name))
    if found is None or found.variant is None or representative(found.variant) != variant:
        raise ValueError(f"the tensors of {variant.name} are taken for {found}")
    alone = recognise(shapes)
    return _NAMED if alone is not None and alone.asks else "tensors"


def _shapes(variant: Variant) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a variant's tensors, in its own list or in that of a variant with the same ones."""
    if variant.name == "edge_sam_rpn":  # the head's own tensors do not matter
        return {**shapes_of("edge_sam"), "rpn_head.conv.weight": (1,)}
    return shapes_of(variant.name if variant.name in NAMES else variant.architecture.name)  # type: ignore[union-attr]
