"""The models that bhk knows, and what each needs: `bhk.models`. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from bhk.base.packages import is_installed
from bhk.base.report import Report
from bhk.base.tables import Column, Table
from bhk.base.texts import number
from bhk.sam.variants import FAMILIES, VARIANTS, Variant

_COLUMNS = (
    Column("model", "left", least=12),
    Column("variant", "left", rank=3),
    Column("published file", "left", least=14),
    Column("license", "left", rank=2),
    Column("parameters", rank=4),
    Column("published ratio", rank=5),
    Column("ratio"),
    Column("package", "left", rank=1),
    Column("installed"),
)


@dataclass(frozen=True)
class Model:
    """A model that bhk recognises and builds.

    >>> model = next(model for model in bhk.models().models if model.name == "sam2_hiera_tiny")
    >>> model.title, model.packages
    ('SAM2-T', ('sam2',))

    Attributes:
        name: the variant, as `bhk.inspect` shows it.
        title: its usual name.
        family: its architecture.
        packages: packages that can build it; one is enough.
        installed: the first of these that is installed; None if none is.
        install: how to install the first of the packages.
        files: names of the published files.
        license: license of the weights.
        parameters: number of parameters; None if it varies.
        published_ratio: compression ratio of the published Birkhoff method; None if none was published.
        ratio: compression ratio of the default preset, measured on synthetic weights of the model's shapes; None if it
            was not measured.
    """

    name: str
    title: str
    family: str
    packages: tuple[str, ...]
    installed: str | None
    install: str
    files: tuple[str, ...]
    license: str
    parameters: int | None
    published_ratio: float | None
    ratio: float | None


@dataclass(frozen=True)
class ModelsReport(Report):
    """The models that bhk knows.

    Attributes:
        models: one entry per variant.
    """

    models: tuple[Model, ...]

    @property
    def hints(self) -> tuple[str, ...]:
        """How to install the packages of models that no installed package builds."""
        missing = {model.packages[0]: model.install for model in self.models if not model.installed}
        return tuple(f"for {package}, {install}" for package, install in missing.items())

    def lines(self) -> Iterator[str | Table]:
        """Yield one row per model, and what the ratios mean."""
        yield Table(_COLUMNS, [_cells(model) for model in self.models])
        yield "ratio: default preset, on synthetic weights of the model's shapes"


def models() -> ModelsReport:
    """List the models that bhk recognises and builds, the package each needs, and how small each becomes.

    >>> found = {model.name: model for model in bhk.models().models}
    >>> found["sam_vit_b"].title, found["sam_vit_b"].license, found["sam_vit_b"].packages
    ('SAM-B', 'Apache-2.0', ('segment_anything',))
    """
    ratios: dict[str, float] = json.loads(resources.files("bhk.sam").joinpath("ratios.json").read_text("utf-8"))
    return ModelsReport(tuple(_model(variant, ratios.get(variant.name)) for variant in VARIANTS.values()))


def _model(variant: Variant, ratio: float | None) -> Model:
    packages = variant.packages or FAMILIES[variant.family].packages
    return Model(
        name=variant.name,
        title=variant.title,
        family=variant.family,
        packages=tuple(package.name for package in packages),
        installed=next((package.name for package in packages if is_installed(package)), None),
        install=packages[0].install,
        files=variant.files,
        license=variant.license,
        parameters=variant.parameters,
        published_ratio=variant.published_ratio,
        ratio=ratio,
    )


def _cells(model: Model) -> tuple[str, ...]:
    return (
        model.title,
        model.name,
        ", ".join(model.files) or "–",
        model.license,
        "–" if model.parameters is None else f"{model.parameters / 1e6:.1f} M",
        number(model.published_ratio),
        number(model.ratio),
        model.installed or next(iter(model.packages), "–"),
        "yes" if model.installed else "no",
    )
