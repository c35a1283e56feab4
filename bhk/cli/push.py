"""`bhk push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bhk.cli.options import Json, Quiet
from bhk.cli.output import Output


def push(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE.bhk... USER/REPO",
            help="One file, which becomes model.bhk, or several; then a model repository on the Hub, which is created if it "
            "does not exist.",
        ),
    ],
    evaluation: Annotated[
        list[Path] | None,
        typer.Option("--eval", metavar="FILE.json", help="Results for the card, from `bhk eval --out`. Repeatable."),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(metavar="USER/REPO", help="The original on the Hub, if the file does not name it."),
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="License of the weights (apache-2.0, ...), if the file does not state it."),
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md", help="Your own card text: Markdown with {{summary}}, {{loading}}, {{provenance}}, ..."
        ),
    ] = None,
    include: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Add a file under its own name: LICENSE, tokenizer.json, ... Repeatable."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Create a private repository; send nothing to a public one.")
    ] = False,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request, or add to the open one with the same title.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="An existing branch, or refs/pr/N. Default: main.")
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", metavar="TEXT", help="Title of the commit and of the pull request.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Write the repository to a new folder instead; no network."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the files and the card; no network, nothing is written.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Publish .bhk files on the Hugging Face Hub, with configuration files and a model card."""
    *files, repository = arguments
    if not files:
        raise typer.BadParameter(f"missing FILE.bhk or USER/REPO beside {repository!r}")
    from bhk.publishing.content import Card
    from bhk.publishing.push import push as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        report = task(
            [Path(file) for file in files],
            repository,
            card=Card(base_model, license, evaluation or (), template),
            include=include or (),
            private=private or None,
            create_pr=create_pr,
            revision=revision,
            message=message,
            out=out,
            dry_run=dry_run,
            progress=progress,
        )
    output.report(report)
