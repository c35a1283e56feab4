"""The commands of the command line `bhk`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from bhk.cli.compare import compare
from bhk.cli.convert import convert
from bhk.cli.diff import diff
from bhk.cli.eval import evaluate
from bhk.cli.export import export
from bhk.cli.inspect import inspect
from bhk.cli.messages import print_error
from bhk.cli.models import models
from bhk.cli.pull import pull
from bhk.cli.push import push
from bhk.cli.report import report
from bhk.cli.segment import segment
from bhk.cli.verify import verify
from bhk.version import __version__

_EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {
    convert: (
        "bhk convert sam_vit_b_01ec64.pth",
        "bhk convert facebook/sam-vit-base -o sam_b.bhk --preset small",
        "bhk convert 'runs/*/last.pt' --out-dir compressed --workers 4",
    ),
    inspect: ("bhk inspect sam_b.bhk --by role", "bhk inspect sam_b.bhk --sort snr --top 10"),
    verify: ("bhk verify sam_b.bhk", "bhk verify sam_b.bhk --against sam_vit_b_01ec64.pth"),
    export: (
        "bhk export sam_b.bhk -o sam_b.pth",
        "bhk export sam_b.bhk -o ComfyUI/models/sams/",
        "bhk export sam_b.bhk -o sam_b_onnx --format onnx",
    ),
    diff: ("bhk diff sam_vit_b_01ec64.pth sam_b.bhk",),
    segment: (
        "bhk segment sam_b.bhk photo.jpg --point 500,375 -o masks.png",
        "bhk segment sam_b.bhk photo.jpg --everything --json",
        "bhk segment sam2.bhk clip.mp4 --point 500,375 --point 530,390@48 -o masks.mp4",
    ),
    evaluate: (
        "bhk eval sam_b.bhk --images photos/ --against sam_vit_b_01ec64.pth",
        "bhk eval sam_b.bhk --images val2017/ --annotations instances_val2017.json --limit 200",
        "bhk eval sam_b.bhk --images photos/ --against sam_vit_b_01ec64.pth --work-dir work --part 2/8",
    ),
    report: ("bhk report sam_b.bhk --against sam_vit_b_01ec64.pth --images photos/ -o report.html",),
    compare: ("bhk compare sam_vit_b_01ec64.pth --presets balanced,small --images photos/ --plot presets.svg",),
    push: ("bhk push sam_b.bhk user/sam-b-bhk --dry-run", "bhk push sam_b.bhk user/sam-b-bhk --eval results.json"),
    pull: ("bhk pull user/sam-b-bhk", "bhk pull user/sam-b-bhk -o models/sam_b.bhk"),
    models: ("bhk models",),
}

# click's UsageError; newer versions of typer have a copy of click.
_UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")

app = typer.Typer(
    name="bhk",
    help="Compress Segment Anything checkpoints, and any others, into small, checked .bhk files.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command, examples in _EXAMPLES.items():
    name = "eval" if command is evaluate else command.__name__
    app.command(name, epilog="\n\n".join(("Examples:" if len(examples) > 1 else "Example:", *examples)))(command)


def _show_version(value: bool) -> None:
    if value:
        print(f"bhk {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def run() -> int:
    """Run the command that was typed, and return its status: 2 on wrong usage, which is explained."""
    try:
        _refuse_empty(sys.argv[1:])
        return int(app(standalone_mode=False) or 0)
    except _UsageError as error:
        _explain_usage(error)
        return 2


def _refuse_empty(arguments: list[str]) -> None:
    """Refuse an argument without text, which would stand for the current folder.

    Raises:
        UsageError: there is one.
    """
    if "" in arguments:
        raise _UsageError(f"argument {arguments.index('') + 1} is empty; is a variable of the shell not set?")


def _explain_usage(error: Any) -> None:
    """Print how the command is used, and what is wrong; nothing if that was the help, as for `bhk` alone."""
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    if not message.strip():
        return
    if error.ctx is not None:
        print(error.ctx.get_usage(), file=sys.stderr)
        message += f"; see {error.ctx.command_path} --help"
    print_error("UsageError", f"{message[0].lower()}{message[1:]}")
