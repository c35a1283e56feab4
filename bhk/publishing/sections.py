"""The parts of a card, which a template puts in their places."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import PurePosixPath

from bhk.base.errors import shown
from bhk.base.names import BHK_SUFFIX, CHECKPOINT_SUFFIXES, MODEL_FILE
from bhk.base.packages import Package
from bhk.base.texts import number, size
from bhk.checkpoint.companions import companions_of, has_companions
from bhk.container.header import ROLES
from bhk.publishing.facts import CardFacts, FileFacts
from bhk.publishing.figures import result_text
from bhk.publishing.kept import marked
from bhk.publishing.markdown import block, code, repository_link, table
from bhk.publishing.usage import LONGEST, address, bhk_lines, full_address, transformers_class, transformers_lines
from bhk.sam.variants import FAMILIES

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_HALF = ("float16", "bfloat16")
_STORED = {"trajectory": "coded", "exact": "exact"}

_FILES = [
    ("file", "left"),
    ("model", "left"),
    ("original", "right"),
    ("size", "right"),
    ("times smaller", "right"),
    ("bits a weight", "right"),
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


def summary(facts: CardFacts) -> str:
    """Return what this is, in a few sentences."""
    models = " and ".join(dict.fromkeys(map(_model, facts.files)))
    bases = " and ".join(link for link in map(repository_link, facts.base_models) if link not in models)
    copies = "These are compressed copies" if len(facts.files) > 1 else "This is a compressed copy"
    sources = " and ".join(dict.fromkeys(code(file.source) for file in facts.files if file.source))
    origin = bases if facts.base_models else sources
    weights = f"the weights of {origin}" if origin else "the original weights"
    generators = " and ".join(dict.fromkeys(code(file.inspection.generator) for file in facts.files))
    return (
        f"{models[0].upper()}{models[1:]}, {_ratios(facts)} times smaller. {copies} of {weights}, made by {generators} "
        "without training: pairs of weights are replaced by steps on a winding line, the steps are packed without loss, and "
        "small tensors stay exact. A `.bhk` file loads as the model itself, or turns back into an ordinary checkpoint."
    )


def files(facts: CardFacts) -> str:
    """Return a table of the files."""
    rows = [_file_row(file) for file in facts.files]
    text = table(_FILES, rows)
    halves = dict.fromkeys(dtype for file in facts.files for dtype in _dtypes(file) if dtype in _HALF)
    if halves:
        text += (
            f"\n\nThe original is in {' and '.join(halves)} already, which is half of float32; "
            "the ratio is to that, not to float32."
        )
    return text


def loading(facts: CardFacts) -> str:
    """Return how to load the models: one of each kind in full."""
    alike: dict[object, list[FileFacts]] = {}
    for file in facts.files:
        alike.setdefault((file.family, file.transformers_class), []).append(file)
    texts = []
    for first, *others in alike.values():
        texts.append(_loading(facts, first))
        if others:
            texts.append(f"Likewise {', '.join(code(address(facts, file)) for file in others)}.")
    look = block("sh", shlex.join(["bhk", "inspect", full_address(facts, facts.files[0])]))
    return "\n\n".join(
        (*texts, "To see the size and the error of every tensor without a download (only the header is read):", look)
    )


def dense(facts: CardFacts) -> str:
    """Return how to have an ordinary checkpoint for other programs."""
    commands = []
    for file in facts.files:
        local, restored = _local_name(facts, file), _restored_name(facts, file)
        commands.append(
            ["bhk", "pull", facts.repository, *([shown(file.name, LONGEST)] if len(facts.files) > 1 else [])]
        )
        if file.transformers_class is not None:  # it looks for its own names in a folder, and for config.json
            commands.append(["mkdir", restored])
        commands.append(["bhk", "export", local, restored])
    return "\n\n".join(
        (
            "For programs that do not know `.bhk`, get dense weights back, under their original names and in their dtypes:",
            block("sh", *map(shlex.join, commands)),
        )
    )


def results(facts: CardFacts) -> str:
    """Return what was measured, or that nothing was."""
    if not any(file.is_measured for file in facts.files):
        return _unmeasured(facts, facts.files[0])
    return _for_each(facts, lambda file: _results(facts, file))


def layers(facts: CardFacts) -> str:
    """Return a table of what is stored and how far off it is, by role."""
    return "\n\n".join(
        (
            _for_each(facts, _layers),
            "SNR is the signal-to-noise ratio of the decoded weights to the original ones, of the tensor where it is lowest; "
            "tensors stored exactly have none.",
        )
    )


def provenance(facts: CardFacts) -> str:
    """Return what the files were made from, with hashes."""
    return _for_each(facts, _provenance)


def limits(facts: CardFacts) -> str:
    """Return what the model is for, where its limits are, and its licence."""
    origin = " and ".join(map(repository_link, facts.base_models)) or "the model that this was made from"
    change = "How much compression changes the answers was not measured here; check it on data of your own."
    if all(file.is_measured for file in facts.files):
        change = (
            "How much compression changes the answers was measured as told above; on other pictures it may be more."
        )
    licence = "The licence is not stated here; ask whoever published the weights."
    if facts.licence is not None:
        title = code(facts.licence.title)
        named = f"[{title}]({facts.licence.link})" if facts.licence.link else title
        licence = f"The licence of the original weights, {named}, holds for the compressed ones too."
    return (
        f"For intended use, training data, biases and limits, read the card of {origin}: they are the same here. "
        f"{change} {licence}"
    )


SECTIONS: dict[str, Callable[[CardFacts], str]] = {
    "summary": summary,
    "files": files,
    "loading": loading,
    "dense": dense,
    "results": results,
    "layers": layers,
    "provenance": provenance,
    "limits": limits,
}


def _model(file: FileFacts) -> str:
    """Return which model a file holds, as far as it tells."""
    if file.variant is not None:
        return f"**{file.variant.title}**"
    if file.like is not None:
        return f"a model of the sizes of **{file.inspection.title}**"
    if file.segments:
        return "a **Segment Anything** model"
    if file.source_repository is not None:
        return repository_link(file.source_repository)
    return f"a **{file.architecture}** of transformers" if file.architecture else "a model"


def _ratios(facts: CardFacts) -> str:
    found = sorted({f"{file.inspection.ratio:.2f}" for file in facts.files}, key=float)
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _dtypes(file: FileFacts) -> list[str]:
    """Return the floating dtypes of the original tensors."""
    return [_DTYPES[dtype] for dtype in file.inspection.total.dtype.split(",") if dtype in _DTYPES]


def _file_row(file: FileFacts) -> list[str]:
    found = file.inspection
    dtypes = ", ".join(_dtypes(file))
    return [
        code(file.name),
        (file.variant.title if file.variant else found.title if file.family else file.architecture) or "–",
        size(found.total.dense_bytes) + (f", {dtypes}" if dtypes else ""),
        size(found.file_bytes),
        number(found.ratio),
        number(8 * found.file_bytes / found.total.weights if found.total.weights else None),
    ]


def _local_name(facts: CardFacts, file: FileFacts) -> str:
    """Return what `bhk pull` calls a file."""
    if file.name != MODEL_FILE:
        return shown(file.name, LONGEST)
    return PurePosixPath(facts.repository).name.removesuffix(BHK_SUFFIX) + BHK_SUFFIX


def _loading(facts: CardFacts, file: FileFacts) -> str:
    lines, name = bhk_lines(facts, file), transformers_class(facts, file)
    if file.family is not None:
        if file.segments:
            lines.append('found = bhk.segment(model, "photo.jpg", points=[(500, 375)])')
        parts = [_needs(FAMILIES[file.family].packages[0]), block("python", *lines)]
        if name is not None:
            parts += ["Or as any model of transformers:", _from_pretrained(facts, file)]
        return "\n\n".join(parts)
    if name is not None:
        return f'After `pip install "bhk[transformers]"`:\n\n{_from_pretrained(facts, file)}'
    return f"After `pip install bhk`, into a module of the same architecture:\n\n{block('python', *lines)}"


def _needs(package: Package) -> str:
    command = package.install.removeprefix("run: ")
    if command != package.install:
        return f"After `pip install bhk` and `{command}`:"
    return f"After `pip install bhk`, with the package {code(package.name)} ({package.install}):"


def _from_pretrained(facts: CardFacts, file: FileFacts) -> str:
    program = block("python", *transformers_lines(facts, file))
    if len(companions_of(file.metadata)) > 1 or not facts.base_models:
        return program
    origin = " and ".join(map(repository_link, facts.base_models))
    return f"{program}\n\nIts processor or tokenizer, where it is not here, is that of {origin}."


def _source_name(file: FileFacts) -> str:
    """Return the name of the file or folder that was the original; empty without one."""
    return PurePosixPath(shown(file.source or "")).name


def _restored_name(facts: CardFacts, file: FileFacts) -> str:
    """Return what to call the dense checkpoint, which is not the original; of transformers, a folder."""
    name = PurePosixPath(_local_name(facts, file)).stem + "-restored"
    if file.transformers_class is not None:
        return name
    suffix = PurePosixPath(_source_name(file)).suffix
    return name + (suffix if suffix in CHECKPOINT_SUFFIXES else ".safetensors")


def _original_repository(facts: CardFacts, file: FileFacts) -> str | None:
    """Return where on the Hub the original is; None when it has a name of its own, or nobody knows."""
    if file.source_repository is not None:
        return file.source_repository
    name = _source_name(file)
    return facts.base_models[0] if len(facts.base_models) == 1 and (not name or has_companions(name)) else None


def _for_each(facts: CardFacts, text: Callable[[FileFacts], str]) -> str:
    if len(facts.files) == 1:
        return text(facts.files[0])
    return "\n\n".join(f"### {code(file.name)}\n\n{text(file)}" for file in facts.files)


def _results(facts: CardFacts, file: FileFacts) -> str:
    if not file.is_measured:
        return _unmeasured(facts, file)
    measured = "\n\n".join(result_text(result, file.metadata.get("source.sha256")) for result in file.results)
    return marked(measured or file.kept_results or "", file.sha256)


def _unmeasured(facts: CardFacts, file: FileFacts) -> str:
    local, repository = _local_name(facts, file), _original_repository(facts, file)
    original = "original" if repository else _source_name(file) or "original.safetensors"
    if file.segments:
        run = ["bhk", "eval", local, "--against", original, "--images", "photos/", "--out", "results.json"]
        place = f", {repository_link(repository)} in the folder {code(original)}" if repository else ""
        text = f"Not measured: no results came with this file. This compares masks with those of the original{place}:"
    else:
        origin = file.source if file.source_repository else repository or original
        run = ["bhk", "verify", local, "--against", shown(origin)]
        text = "Not measured: only the error of the weights is known, below. This checks it against the original:"
    return f"{text}\n\n{block('sh', shlex.join(run))}"


def _layers(file: FileFacts) -> str:
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


def _provenance(file: FileFacts) -> str:
    lines = [f"- {code(file.name)}: {file.inspection.file_bytes:,} bytes, SHA-256 {code(file.sha256)}"]
    if file.source:
        count, digest = (file.metadata.get(f"source.{key}") for key in ("bytes", "sha256"))
        origin = [f"{_grouped(count)} bytes"] if count else []
        origin += [f"SHA-256 {code(digest)}"] if digest else []
        lines.append(f"- made from {code(file.source)}: {', '.join(origin) or 'a module in memory'}")
    lines.append(f"- made by {code(file.inspection.generator)}")
    return "\n".join(lines)


def _grouped(digits: str) -> str:
    return f"{int(digits):,}" if re.fullmatch("[0-9]{1,18}", digits) else code(digits)
