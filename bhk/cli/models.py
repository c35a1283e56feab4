"""`bhk models`."""

from __future__ import annotations

from bhk.cli.options import Json
from bhk.cli.output import Output


def models(as_json: Json = False) -> None:
    """List the models that bhk recognises and builds, the package each needs, and how small each becomes."""
    from bhk.tasks.models import models as task

    output = Output(as_json=as_json)
    output.report(task())
