"""Which models bhk knows, and what each needs: `bhk.models`. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

from bhk.base.packages import is_installed
from bhk.sam.variants import FAMILIES, VARIANTS, Variant


@dataclass(frozen=True)
class Model:
    """A model of the family.

    Attributes:
        name: of the variant, as `bhk.inspect` shows it.
        title: what people call it.
        family: its architecture and layout.
        packages: names of the packages that build it; one of them is enough.
        installed: the one that will; None when none is installed.
        install: what to do to have the first of them.
        files: names of the published files.
        licence: of the weights.
        parameters: number of elements of the state dict; None where it depends.
        published_ratio: by which the published method makes the file smaller; None where none was published.
        ratio: what the default preset makes of a checkpoint of these shapes with synthetic weights; None when not measured.
    """

    name: str
    title: str
    family: str
    packages: tuple[str, ...]
    installed: str | None
    install: str
    files: tuple[str, ...]
    licence: str
    parameters: int | None
    published_ratio: float | None
    ratio: float | None


def models() -> tuple[Model, ...]:
    """Return the models that bhk recognises and builds."""
    ratios: dict[str, float] = json.loads(resources.files("bhk.sam").joinpath("ratios.json").read_text("utf-8"))
    return tuple(_model(variant, ratios.get(variant.name)) for variant in VARIANTS.values())


def _model(variant: Variant, ratio: float | None) -> Model:
    packages = FAMILIES[variant.family].packages
    return Model(
        name=variant.name,
        title=variant.title,
        family=variant.family,
        packages=tuple(package.name for package in packages),
        installed=next((package.name for package in packages if is_installed(package)), None),
        install=packages[0].install,
        files=variant.files,
        licence=variant.licence,
        parameters=variant.parameters,
        published_ratio=variant.published_ratio,
        ratio=ratio,
    )
