"""`bhk models`."""

from __future__ import annotations

from bhk.cli.options import Json
from bhk.cli.output import Output, number

_COLUMNS = [
    ("model", "left"),
    ("variant", "left"),
    ("published file", "left"),
    ("licence", "left"),
    ("parameters", "right"),
    ("published ratio", "right"),
    ("ratio", "right"),
    ("package", "left"),
]


def models(as_json: Json = False) -> None:
    """List the models that are recognised and built, the package each needs, and how small they become."""
    from bhk.tasks.models import models as task

    output = Output(as_json=as_json)
    found = task()
    output.table(
        _COLUMNS,
        [
            (
                model.title,
                model.name,
                ", ".join(model.files) or "–",
                model.licence,
                "–" if model.parameters is None else f"{model.parameters / 1e6:.1f} M",
                number(model.published_ratio),
                number(model.ratio),
                model.installed or f"{' or '.join(model.packages)} (not installed)",
            )
            for model in found
        ],
    )
    output.line("ratio: measured with the default preset on checkpoints of these shapes, whose weights are synthetic")
    for install in dict.fromkeys(model.install for model in found if model.installed is None):
        output.hint(f"to install: {install}")
    output.document(list(found))
