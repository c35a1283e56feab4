"""Write docs/python.md, the Python reference, from signatures and docstrings.

`python -m tools.python_reference` writes, `--check` exits with 1 when the file is out of date.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bhk.base.report import Report
from bhk.base.tables import Table
from bhk.codec.codebook import Codebook, Codes
from bhk.container.header import LayerEntry
from bhk.nn.meta import Most
from tools.public_names import PublicName, public_names

TARGET = Path(__file__).parents[1] / "docs" / "python.md"
WIDTH = 100  # of signatures
HEADING = """# Python reference

`make docs` writes this page from the docstrings. The tests run every example, in a folder that holds the demo model
(`demo_sam.safetensors`), the same model converted (`demo_sam.bhk`) and a picture (`photo.jpg`), after `import bhk, torch` and
`import numpy as np`.
"""
# The names that signatures use for types: where each is defined, and what it stands for.
TYPES = {
    "Array": ("bhk.file.bhkfile", "a numpy array"),
    "Attention": ("bhk.sam.attention.fuse", "whose modules compute attention, see `bhk.load`"),
    "Box": ("bhk.pictures.prompts", "(x0, y0, x1, y1) in pixels"),
    "Checkpoint": (
        "bhk.sam.registry",
        "a checkpoint or a .bhk file, here or on the Hub; None builds the model without weights",
    ),
    "Config": (
        "bhk.sam.configuration",
        "a configuration: a YAML or JSON file, a name of one in the model's package, or a name of `bhk models`",
    ),
    "Compute": ("bhk.nn.hyperlinear", "how layers on codes multiply, see `bhk.load_into`"),
    "Device": ("bhk.nn.device", 'such as "cuda:1"'),
    "Dtype": ("bhk.nn.precision", 'such as "bfloat16"'),
    "Evaluations": ("bhk.publishing.content", "the results of evaluations"),
    "FilePath": ("bhk.base.files", "a file or folder"),
    "Grouping": ("bhk.tasks.inspect", "what the rows of `bhk.inspect` stand for instead of tensors"),
    "MaskOutput": ("bhk.evaluation.settings", "an output of the mask decoder"),
    "Mode": ("bhk.nn.plan", "whether linear layers keep their codes, see `bhk.load_into`"),
    "ObjectPrompt": ("bhk.evaluation.settings", "a way to ask for an annotated object"),
    "Point": ("bhk.pictures.prompts", "(x, y) in pixels"),
    "Progress": ("bhk.base.progress", "a function called with (stage, done, total), in the unit that the task names"),
    "Record": ("bhk.evaluation.files", "a row of a table"),
    "Result": ("bhk.engines.engine", "what the work makes of a shard"),
    "Rgb": ("bhk.pictures.image", "a picture, (height, width, 3)"),
    "Samples": ("bhk.calibration.options", "what calibration shows a model, see `bhk.Calibration`"),
    "Shard": ("bhk.engines.engine", "what the work is given"),
    "Sorting": ("bhk.tasks.inspect", "a column of `bhk.inspect`"),
    "Status": ("bhk.tasks.convert_all", "what became of a checkpoint"),
    "StepRule": ("bhk.calibration.options", "how steps are shared out, see `bhk.Calibration`"),
    "Weights": ("bhk.graphs.parts", "how an ONNX file holds the weights of coded layers"),
    "Workers": ("bhk.evaluation.frame", "processes of this machine, or a Ray cluster"),
}
CLASSES = (Codebook, Codes, LayerEntry, Most, Table)  # returned by methods, but not public by name
TITLES = {
    "bhk": "bhk",
    "bhk.errors": "bhk.errors: what can go wrong",
    "bhk.nn": "bhk.nn: layers that keep their codes",
    "bhk.sam": "bhk.sam: in place of other packages' builders",
}
SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields|Example|Examples|Note|Source):\s*(.*)")
ITEM = re.compile(r"(\*{0,2}[\w., ]+?):\s+(.*)")
MEMBERS = ("method", "property")
RETURNED = ("bhk.BhkFile", "bhk.Choice", "bhk.EncodedTensor", "bhk.Model")  # made by functions, not by users


def text() -> str:
    """Return the reference in Markdown."""
    names = list(public_names())
    lines = [HEADING]
    for module in (name for name in names if name.kind == "module"):
        inside = [name for name in names if _module_of(name, names) == module.name]
        lines += [f"## {TITLES.get(module.name, module.name)}", ""]
        lines += [*markdown(module.docstring), ""]
        for kind in ("function", "class", "value"):
            for name in sorted(inside, key=lambda name: name.name.casefold()):
                if name.kind == kind:
                    lines += _entry(name, inside)
        if module.name != "bhk.errors":  # its docstring lists them
            lines += ["", *(f"- `{name.name}`: {_joined(name.docstring)}" for name in inside if name.kind == "error")]
        if module.name == "bhk":
            lines += _reports()
    lines += _types()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _types() -> Iterator[str]:
    """Yield what the names in signatures stand for that are neither public nor Python's own."""
    yield from ("", "## Types", "")
    yield "Signatures use these names for types. `Tensor` and `nn` are torch's, and `Image` is Pillow's."
    yield ""
    yield from (f"- `{name}` is `{_definition(module, name)}`: {words}." for name, (module, words) in TYPES.items())
    for value in CLASSES:
        yield from ("", f"### {value.__name__}", "")
        yield from markdown(inspect.getdoc(value) or "")


def _definition(module: str, name: str) -> str:
    """Return the right side of the assignment that defines a type."""
    source = inspect.getsource(importlib.import_module(module))
    found = re.search(rf"^{name}(?:: TypeAlias)? = ([^#\n]+)", source, re.MULTILINE)
    if found is None:
        raise ValueError(f"{module} does not define {name}")
    return found[1].strip()


def _module_of(name: PublicName, names: list[PublicName]) -> str:
    modules = [other.name for other in names if other.kind == "module" and name.name.startswith(other.name + ".")]
    return max(modules, key=len, default="") if name.kind != "module" else ""


def _entry(name: PublicName, inside: list[PublicName]) -> Iterator[str]:
    """Yield the heading, signature and text of a name, and of the members of a class."""
    yield from ("", f"### {name.name}", "")
    if has_signature(name):
        yield from ("```python", signature(name), "```", "")
    yield from markdown(name.docstring)
    yield from _inherited(name)
    members = [other for other in inside if other.kind in MEMBERS and other.name.rpartition(".")[0] == name.name]
    if properties := [member for member in members if member.kind == "property"]:
        yield from ("", "Properties:", "")
        yield from (f"- `{member.name.rpartition('.')[2]}`: {_joined(member.docstring)}" for member in properties)
    for member in members:
        if member.kind == "method":
            yield from ("", "```python", signature(member), "```", "")
            yield from markdown(member.docstring)


def _inherited(name: PublicName) -> Iterator[str]:
    """Yield the attributes of a class's constructor that its bases describe."""
    bases = name.value.__mro__[1:] if name.kind == "class" and has_signature(name) else ()
    for base in filter(dataclasses.is_dataclass, bases):
        for block in (inspect.getdoc(base) or "").split("\n\n"):
            if block.startswith("Attributes:"):
                yield from markdown("Further attributes:" + block.removeprefix("Attributes:"))


def _reports() -> Iterator[str]:
    yield from ("", "### Reports", "")
    yield from markdown(inspect.getdoc(Report) or "")
    for member in ("save", "document", "lines"):
        method = PublicName(f"Report.{member}", getattr(Report, member), "method")
        yield from ("", "```python", signature(method), "```", "")
        yield from markdown(method.docstring)


def has_signature(name: PublicName) -> bool:
    """Return whether users call this name: functions, and classes that are not results of a function."""
    if name.kind == "class":
        return not issubclass(name.value, Report) and name.name not in RETURNED
    return name.kind in ("function", "method")


def signature(name: PublicName) -> str:
    """Return the signature as it would stand in code, on one line or one parameter a line."""
    found = inspect.signature(name.value)
    parameters = [p for p in found.parameters.values() if p.name not in ("self", "cls")]
    shown = [_parameter(parameter) for parameter in parameters]
    kinds = [parameter.kind for parameter in parameters]
    variadic = inspect.Parameter.VAR_POSITIONAL in kinds
    if inspect.Parameter.KEYWORD_ONLY in kinds and not variadic:
        shown.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    is_class = inspect.isclass(name.value)
    result = "" if is_class or found.return_annotation in (found.empty, None) else f" -> {found.return_annotation}"
    short = name.name if name.kind != "method" else ".".join(name.name.split(".")[-2:])
    line = f"{short}({', '.join(shown)}){result}"
    if len(line) <= WIDTH:
        return line
    return f"{short}(\n" + "".join(f"    {parameter},\n" for parameter in shown) + f"){result}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    annotation = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
    if parameter.default is parameter.empty:
        return f"{stars}{parameter.name}{annotation}"
    equals = " = " if annotation else "="
    return f"{stars}{parameter.name}{annotation}{equals}{_default(parameter.default)}"


def _default(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and value == type(value)():
        return f"{type(value).__name__}()"
    return f'"{value}"' if isinstance(value, str) else getattr(value, "__name__", repr(value))


def markdown(docstring: str) -> Iterator[str]:
    """Yield a docstring as Markdown: its sections as lists, its examples as code."""
    for block in re.split(r"\n\s*\n", docstring.strip()):
        lines = block.splitlines()
        if lines[0].lstrip().startswith(">>>"):
            yield from ("", "```python", *textwrap.dedent(block).splitlines(), "```", "")
        elif match := SECTION.fullmatch(lines[0]):
            yield from _section(match[1], match[2], textwrap.dedent("\n".join(lines[1:])))
        elif lines[0].endswith(":") and len(lines) > 1 and lines[1].startswith("    "):
            yield from _section(lines[0][:-1], "", textwrap.dedent("\n".join(lines[1:])))
        elif lines[0].startswith("    "):
            yield from ("", "```python", *textwrap.dedent(block).splitlines(), "```", "")
        else:
            yield from (*lines, "")


def _section(title: str, rest: str, body: str) -> Iterator[str]:
    if ">>>" in body or title.startswith("Example"):
        yield from ("```python", *body.strip().splitlines(), "```", "")
        return
    items = re.split(r"\n(?=\S)", body) if body.strip() else []
    if rest or not all(ITEM.match(item) for item in items):
        yield from (f"{title}: {_joined(rest + ' ' + body)}", "")
        return
    yield from (f"{title}:", "")
    for item in items:
        match = ITEM.match(_joined(item))
        assert match is not None
        yield f"- `{match[1]}`: {match[2]}"
    yield ""


def _joined(words: str) -> str:
    return " ".join(words.split())


def main() -> None:
    """Write the reference, or check it."""
    if "--check" in sys.argv[1:]:
        if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text():
            sys.exit(f"{TARGET.name} is out of date: run `make docs`")
        return
    TARGET.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
