"""`bhk push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bhk.cli.options import Json, Quiet
from bhk.cli.output import Output, size


def push(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE.bhk...", help="One file, which becomes model.bhk, or several.")
    ],
    repository: Annotated[str, typer.Argument(metavar="USER/REPO", help="A model repository; made if it is missing.")],
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private; send nothing to a public one.")
    ] = False,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request, or go on with the open one of the same title.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="An existing branch, or refs/pr/N; main by default.")
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", metavar="TEXT", help="Title of the commit and of the pull request.")
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            "--eval", metavar="FILE.json", help="Results for the card, as `bhk eval --out` wrote them. Repeatable."
        ),
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(metavar="USER/REPO", help="The original on the Hub, if the file does not tell.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence", "--license", metavar="NAME", help="Of the weights, if the file does not tell: apache-2.0, …"
        ),
    ] = None,
    include: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Add a file under its own name: LICENSE, tokenizer.json, … Repeatable."),
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md", help="Text of the card: Markdown with {{summary}}, {{loading}}, {{provenance}}, …"
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the repository into a new folder instead; no network.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the files and the card; no network, nothing is written.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Publish .bhk files on the Hugging Face Hub, with configuration files and a model card."""
    from bhk.publishing.push import push as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress("Checking") as progress:
        report = task(
            files,
            repository,
            private=private or None,
            create_pr=create_pr,
            revision=revision,
            message=message,
            evaluation=evaluation or (),
            base_model=base_model,
            licence=licence,
            include=include or (),
            template=template,
            folder=folder,
            dry_run=dry_run,
            progress=progress.part if progress else None,
        )
    for hint in report.hints:
        output.hint(f"warning: {hint}")
    rows = [(file.name, size(file.bytes), file.state) for file in report.files]
    output.table([("file", "left"), ("size", "right"), ("", "left")], rows)
    if dry_run:
        output.line("")
        for line in report.card.splitlines():
            output.line(line)
    elif report.commit is None:
        output.line(f"{report.url}: {len(report.files)} files; nothing was sent to the Hub")
    elif report.changed:
        where = report.pull_request or report.url
        new = " of a new repository" if report.created else ""
        output.line(f"{where}: commit {report.commit[:8]}{new}, {size(report.sent_bytes)} of weights")
    else:
        output.line(f"{report.pull_request or report.url}: nothing to do, commit {report.commit[:8]} holds all of it")
    for line in report.usage:
        output.hint(line)
    output.document(report)
