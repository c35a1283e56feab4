"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BhkPath = Annotated[Path, typer.Argument(metavar="FILE.bhk", help="A .bhk file.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace the destination if it exists.")]
Key = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which state dict, when the checkpoint holds several: ema, model, …")
]
Threads = Annotated[int | None, typer.Option(min=1, metavar="N", help="Worker threads; one a core by default.")]
