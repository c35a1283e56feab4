"""The sections of a card, which a template arranges."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import PurePosixPath

import torch

from bhk.base.errors import shown
from bhk.base.names import BHK_SUFFIX, CHECKPOINT_SUFFIXES, MODEL_FILE
from bhk.base.packages import Package
from bhk.base.project import installation
from bhk.base.texts import number, size
from bhk.checkpoint.companions import companions_of, has_companions
from bhk.codec.dtypes import TORCH_DTYPES
from bhk.codec.shape import CODED_DTYPES
from bhk.container.header import ROLES
from bhk.publishing.content import CardContent, PublishedFile
from bhk.publishing.evaluations import evaluation_text, marked
from bhk.publishing.markdown import block, code, plain, repository_link, table
from bhk.publishing.usage import LONGEST, address, bhk_lines, full_address, transformers_class, transformers_lines
from bhk.sam.variants import packages_of

_LONGEST_MADE = 1000  # characters of how a file was made
_STORED = {"trajectory": "coded", "exact": "exact"}

_FILES = [
    ("file", "left"),
    ("model", "left"),
    ("original", "right"),
    ("size", "right"),
    ("times smaller", "right"),
    ("bits per weight", "right"),
]
_LAYERS = [
    ("role", "left"),
    ("tensors", "right"),
    ("stored", "left"),
    ("original", "right"),
    ("size", "right"),
    ("times smaller", "right"),
    ("lowest SNR, dB", "right"),
]


def summary(content: CardContent) -> str:
    """Return what the repository holds, in a few sentences."""
    models = " and ".join(dict.fromkeys(map(_model, content.files)))
    bases = " and ".join(link for link in map(repository_link, content.base_models) if link not in models)
    copies = "These are compressed copies" if len(content.files) > 1 else "This is a compressed copy"
    sources = " and ".join(dict.fromkeys(code(file.source) for file in content.files if file.source))
    origin = bases if content.base_models else sources
    weights = f"the weights of {origin}" if origin else "the original weights"
    generators = " and ".join(dict.fromkeys(code(file.inspection.generator) for file in content.files))
    return (
        f"{models[0].upper()}{models[1:]}, {_ratios(content)} times smaller. {copies} of {weights}, made by {generators} "
        "without any training: pairs of weights are stored as steps along a winding line, the steps are packed losslessly, "
        "and small tensors are stored exactly. A `.bhk` file loads as the model itself or converts back into an ordinary "
        "checkpoint."
    )


def files(content: CardContent) -> str:
    """Return a table of the files."""
    rows = [_file_row(file) for file in content.files]
    text = table(_FILES, rows)
    halves = dict.fromkeys(_name(dtype) for file in content.files for dtype in _dtypes(file) if dtype.itemsize == 2)
    if halves:
        text += (
            f"\n\nThe original is already in {' and '.join(halves)}, half the size of float32. The ratio is relative to "
            "that size."
        )
    return text


def loading(content: CardContent) -> str:
    """Return how to load the models, in full for one of each kind."""
    alike: dict[object, list[PublishedFile]] = {}
    for file in content.files:
        alike.setdefault((file.family, file.transformers_class), []).append(file)
    texts = []
    for first, *others in alike.values():
        texts.append(_loading(content, first))
        if others:
            texts.append(f"The same works for {', '.join(code(address(content, file)) for file in others)}.")
    look = block("sh", shlex.join(["bhk", "inspect", full_address(content, content.files[0])]))
    return "\n\n".join(
        (
            *texts,
            "To list the size and error of every tensor without downloading the file (only its header is read):",
            look,
        )
    )


def dense(content: CardContent) -> str:
    """Return how to export an ordinary checkpoint for other programs."""
    commands = []
    for file in content.files:
        local, restored = _local_name(content, file), _restored_name(content, file)
        commands.append(
            ["bhk", "pull", content.repository, *([shown(file.name, LONGEST)] if len(content.files) > 1 else [])]
        )
        if file.transformers_class is not None:  # transformers needs a folder, with config.json
            commands.append(["mkdir", restored])
        commands.append(["bhk", "export", local, "-o", restored])
    return "\n\n".join(
        (
            "For programs that cannot read `.bhk`, export an ordinary checkpoint with the original names and data types:",
            block("sh", *map(shlex.join, commands)),
        )
    )


def results(content: CardContent) -> str:
    """Return the results of evaluations, or how to measure if there are none."""
    if not any(file.is_measured for file in content.files):
        return _unmeasured(content, content.files[0])
    return _for_each(content, lambda file: _results(content, file))


def layers(content: CardContent) -> str:
    """Return a table of what is stored, and its error, by role."""
    return "\n\n".join(
        (
            _for_each(content, _layers),
            "SNR is the signal-to-noise ratio of the decoded weights; the table shows the tensor with the lowest. Tensors "
            "stored exactly have no error.",
        )
    )


def provenance(content: CardContent) -> str:
    """Return what the files were converted from, with hashes."""
    return _for_each(content, _provenance)


def limits(content: CardContent) -> str:
    """Return the intended use, the limits and the license."""
    origin = " and ".join(map(repository_link, content.base_models)) or "the model that this was converted from"
    change = "The effect of compression was not measured here; check it on your own data."
    if all(file.is_measured for file in content.files):
        change = "The effect of compression was measured as described above; on other pictures it may be larger."
    terms = "The license is not stated here; ask the publisher of the weights."
    if content.license is not None:
        title = code(content.license.title)
        named = f"[{title}]({content.license.link})" if content.license.link else title
        terms = f"The license of the original weights, {named}, also applies to the compressed ones."
    return f"The intended use, training data, biases and limits are those of {origin}; see its card. {change} {terms}"


SECTIONS: dict[str, Callable[[CardContent], str]] = {
    "summary": summary,
    "files": files,
    "loading": loading,
    "dense": dense,
    "results": results,
    "layers": layers,
    "provenance": provenance,
    "limits": limits,
}


def _model(file: PublishedFile) -> str:
    """Describe the model in a file, as precisely as the file allows."""
    if file.variant is not None:
        return f"**{file.variant.title}**"
    if file.same_sizes is not None:
        return f"a model with the sizes of **{plain(file.inspection.title or '')}**"
    if file.segments:
        return "a **Segment Anything** model"
    if file.source_repository is not None:
        return repository_link(file.source_repository)
    return f"a **{file.architecture}** of transformers" if file.architecture else "a model"


def _ratios(content: CardContent) -> str:
    found = sorted({f"{file.inspection.ratio:.2f}" for file in content.files}, key=float)
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _dtypes(file: PublishedFile) -> list[torch.dtype]:
    """Return the floating-point dtypes of the original tensors."""
    return [TORCH_DTYPES[dtype] for dtype in file.inspection.total.dtype.split(",") if dtype in CODED_DTYPES]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _file_row(file: PublishedFile) -> list[str]:
    found = file.inspection
    dtypes = ", ".join(map(_name, _dtypes(file)))
    return [
        code(file.name),
        _title(file),
        size(found.total.dense_bytes) + (f", {dtypes}" if dtypes else ""),
        size(found.file_bytes),
        number(found.ratio),
        number(8 * found.file_bytes / found.total.weights if found.total.weights else None),
    ]


def _title(file: PublishedFile) -> str:
    """Return the name of the model in a table."""
    if file.variant is not None:
        return file.variant.title
    if file.segments and file.same_sizes is None:
        return "Segment Anything"
    title = file.inspection.title if file.family else file.architecture
    return plain(title) if title else "–"


def _local_name(content: CardContent, file: PublishedFile) -> str:
    """Return the name that `bhk pull` gives a file."""
    if file.name != MODEL_FILE:
        return shown(file.name, LONGEST)
    return PurePosixPath(content.repository).name.removesuffix(BHK_SUFFIX) + BHK_SUFFIX


def _loading(content: CardContent, file: PublishedFile) -> str:
    lines, name = bhk_lines(content, file), transformers_class(content, file)
    if file.family is not None and file.inspection.model is not None:
        if file.segments:
            prompt = "points=[(500, 375)]" if "points" in file.prompts else "boxes=[(400, 300, 600, 450)]"
            lines.append(f'found = bhk.segment(model, "photo.jpg", {prompt})')
        parts = [_needs(packages_of(file.inspection.model)[0]), block("python", *lines)]
        if name is not None:
            parts += ["Or with transformers:", _from_pretrained(content, file)]
        return "\n\n".join(parts)
    if name is not None:
        return f"After {installation('transformers')}:\n\n{_from_pretrained(content, file)}"
    return f"After {installation()}, into a module of the same architecture:\n\n{block('python', *lines)}"


def _needs(package: Package) -> str:
    command = package.install.removeprefix("run: ")
    if command != package.install:
        return f"After {installation()} and `{command}`:"
    return f"After {installation()}, with the package {code(package.name)} ({package.install}):"


def _from_pretrained(content: CardContent, file: PublishedFile) -> str:
    program = block("python", *transformers_lines(content, file))
    if len(companions_of(file.metadata)) > 1 or not content.base_models:
        return program
    origin = " and ".join(map(repository_link, content.base_models))
    return f"{program}\n\nIf this repository has no processor or tokenizer, use the one of {origin}."


def _source_name(file: PublishedFile) -> str:
    """Return the file or folder name of the original; empty if it is not known."""
    return PurePosixPath(shown(file.source or "")).name


def _restored_name(content: CardContent, file: PublishedFile) -> str:
    """Return a name for the exported checkpoint; for transformers, of a folder."""
    name = PurePosixPath(_local_name(content, file)).stem + "-restored"
    if file.transformers_class is not None:
        return name
    suffix = PurePosixPath(_source_name(file)).suffix
    return name + (suffix if suffix in CHECKPOINT_SUFFIXES else ".safetensors")


def _original_repository(content: CardContent, file: PublishedFile) -> str | None:
    """Return the repository of the original on the Hub; None if it is a file with its own name, or not known."""
    if file.source_repository is not None:
        return file.source_repository
    name = _source_name(file)
    return content.base_models[0] if len(content.base_models) == 1 and (not name or has_companions(name)) else None


def _for_each(content: CardContent, text: Callable[[PublishedFile], str]) -> str:
    if len(content.files) == 1:
        return text(content.files[0])
    return "\n\n".join(f"### {code(file.name)}\n\n{text(file)}" for file in content.files)


def _results(content: CardContent, file: PublishedFile) -> str:
    if not file.is_measured:
        return _unmeasured(content, file)
    measured = "\n\n".join(evaluation_text(entry, file.metadata.get("source.sha256")) for entry in file.evaluations)
    return marked(measured or file.earlier_results or "", file.sha256)


def _unmeasured(content: CardContent, file: PublishedFile) -> str:
    local, repository = _local_name(content, file), _original_repository(content, file)
    original = "original" if repository else _source_name(file) or "original.safetensors"
    if file.segments:
        run = ["bhk", "eval", local, "--against", original, "--images", "photos/", "--out", "results.json"]
        place = f", {repository_link(repository)} in the folder {code(original)}" if repository else ""
        text = (
            f"Not measured: the publisher added no evaluation. To compare its masks with those of the original{place}:"
        )
    else:
        origin = file.source if file.source_repository else repository or original
        run = ["bhk", "verify", local, "--against", shown(origin)]
        text = "Not measured: only the error of the weights is known (see below). To check it against the original:"
    return f"{text}\n\n{block('sh', shlex.join(run))}"


def _layers(file: PublishedFile) -> str:
    found = file.inspection
    rows = sorted(found.rows, key=lambda row: ROLES.index(row.name))
    cells = [
        [
            row.name,
            f"{row.layers:,}",
            _STORED.get(row.encoding, "coded, some exact"),
            size(row.dense_bytes),
            size(row.bytes),
            number(row.ratio),
            number(row.snr_db, 1),
        ]
        for row in rows
    ]
    total = found.total
    whole = [
        "the whole file",
        f"{total.layers:,}",
        "",
        size(total.dense_bytes),
        size(found.file_bytes),
        number(found.ratio),
    ]
    return table(_LAYERS, [*cells, [*whole, ""]])


def _provenance(file: PublishedFile) -> str:
    lines = [f"- {code(file.name)}: {file.inspection.file_bytes:,} bytes, SHA-256 {code(file.sha256)}"]
    if file.source:
        count, digest = (file.metadata.get(f"source.{key}") for key in ("bytes", "sha256"))
        origin = [f"{_grouped(count)} bytes"] if count else []
        origin += [f"SHA-256 {code(digest)}"] if digest else []
        lines.append(
            f"- converted from {code(file.source)}: {', '.join(origin) or 'a module in memory'}{_checked(file)}"
        )
    lines.append(f"- made with {code(file.inspection.made_with, _LONGEST_MADE)}")
    return "\n".join(lines)


def _checked(file: PublishedFile) -> str:
    """Return whether the source is the published file whose name it has."""
    if file.variant is not None and file.source_repository is None:
        return f", which is the published file of {file.variant.title}"
    alike = file.named_like
    if alike is None:
        return ""
    if alike.sha256 is None:
        return f"; whether it is the published file of {alike.title}, whose name it has, was not checked"
    return f"; the published file of {alike.title}, whose name it has, has another SHA-256"


def _grouped(digits: str) -> str:
    return f"{int(digits):,}" if re.fullmatch("[0-9]{1,18}", digits) else code(digits)
