"""Write docs/cli.md, the reference of the command line, from the commands themselves.

`python -m tools.cli_reference` writes, `--check` exits with 1 when the file is out of date.
"""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Any

import typer

from bhk.cli.app import app

TARGET = Path(__file__).parents[1] / "docs" / "cli.md"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _parameter(parameter: Any) -> tuple[str, str]:
    help_text = getattr(parameter, "help", None) or ""
    if parameter.param_type_name == "argument":
        name = parameter.metavar
        return _cell(f"`{name}`{'' if parameter.required else ' (optional)'}"), _cell(help_text)
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    value = "" if parameter.is_flag else f" `{parameter.metavar or parameter.name.upper()}`"
    chosen = parameter.default.value if isinstance(parameter.default, enum.Enum) else parameter.default
    default = f" Default: {chosen}." if isinstance(chosen, str) else ""
    return _cell(names + value), _cell(help_text + default)


def text() -> str:
    """Return the reference in Markdown."""
    group = typer.main.get_command(app)
    root = group.make_context("bhk", [], resilient_parsing=True)
    lines = [
        "# Command line",
        "",
        "`make docs` writes this page from the commands. `bhk COMMAND --help` shows the same.",
        "",
    ]
    for name in group.list_commands(root):
        command = group.get_command(root, name)
        examples = (f"    {line}" for line in command.epilog.split("\n\n")[1:])
        lines += [f"## bhk {name}", "", (command.help or "").strip(), "", *examples, ""]
        lines += ["| argument or option | |", "|---|---|"]
        lines += [f"| {left} | {right} |" for left, right in (_parameter(p) for p in command.params)]
        lines.append("")
    lines += [
        "Every command exits with 0 on success, with 1 and one line on stderr on failure, and with 2 on wrong usage. Data goes",
        "to stdout; hints and progress go to stderr. Progress only shows on a terminal.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Write the reference, or check it."""
    if "--check" in sys.argv[1:]:
        if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text():
            sys.exit(f"{TARGET.name} is out of date: run `make docs`")
        return
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
