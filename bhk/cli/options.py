"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

BhkPath = Annotated[
    str,
    typer.Argument(metavar="FILE.bhk", help="A .bhk file, or one on the Hub: hf://user/repo/file.bhk@revision."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace the destination if it exists.")]
Key = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which state dict, when the checkpoint holds several: ema, model, …")
]
Threads = Annotated[int | None, typer.Option(min=1, metavar="N", help="Worker threads; one a core by default.")]
