"""Results of evaluations on a card: as text and tables, and those that an existing card already shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from bhk.base.texts import counted, number
from bhk.evaluation.accuracy_summary import PromptAccuracy
from bhk.evaluation.fidelity_summary import Agreement
from bhk.evaluation.results import AccuracyReport, EvaluatedModel, FidelityReport
from bhk.publishing.content import CardContent, Evaluation
from bhk.publishing.markdown import code, table

_FIDELITY = [
    ("masks of", "left"),
    ("number", "right"),
    ("mean IoU", "right"),
    ("95 % interval", "right"),
    ("lowest", "right"),
    ("IoU ≥ 0.95", "right"),
    ("boundary IoU", "right"),
]
_ACCURACY = [
    ("prompt", "left"),
    ("model", "left"),
    ("masks", "right"),
    ("mIoU", "right"),
    ("95 % interval", "right"),
    ("AP", "right"),
]
_INTERVALS = "Intervals are 95 % bootstrap intervals over pictures."

_END = "<!-- bhk:results end -->"
_BLOCK = re.compile(rf"^<!-- bhk:results ([0-9a-f]{{64}}) -->\n\n(.*?)\n\n{_END}$", re.MULTILINE | re.DOTALL)


def evaluation_text(evaluation: Evaluation, source: str | None) -> str:
    """Return the results of an evaluation, and how they were measured, as Markdown.

    Args:
        evaluation: the results.
        source: SHA-256 of the checkpoint that the file was converted from, if it is known.
    """
    return _fidelity(evaluation, source) if isinstance(evaluation, FidelityReport) else _accuracy(evaluation, source)


def marked(text: str, sha256: str) -> str:
    """Return the text of results between marks that name the hash of the evaluated file."""
    return f"<!-- bhk:results {sha256} -->\n\n{text}\n\n{_END}"


def with_earlier_results(content: CardContent, card: str) -> CardContent:
    """Return the content with the results that an existing card shows for exactly these files."""
    found = _results_on(card)
    files = tuple(replace(file, earlier_results=found.get(file.sha256)) for file in content.files)
    return replace(content, files=files)


def lost_results(content: CardContent, before: str, after: str) -> str | None:
    """Return a hint if the card `after` no longer shows results that the card `before` does, else None."""
    earlier, ours = _results_on(before).keys(), {file.sha256 for file in content.files}
    if earlier & ours - _results_on(after).keys():
        return "the template has no place for the results on the card, so they are gone; put {{results}} into it"
    if earlier <= ours or all(file.evaluations or file.sha256 in earlier for file in content.files):
        return None
    return "the results on the card were about another file and are gone; give an evaluation of this one"


def _results_on(card: str) -> dict[str, str]:
    """Return the texts of results on a card, by the SHA-256 of the evaluated file."""
    return dict(_BLOCK.findall(card.replace("\r\n", "\n")))


def _fidelity(report: FidelityReport, source: str | None) -> str:
    settings = report.settings
    prompts = " and ".join(
        counted(count, noun, plural)
        for count, noun, plural in (
            (settings.points, "point", "points"),
            (settings.boxes, "box", "boxes"),
            (len(settings.texts), "text", "texts"),
        )
        if count
    )
    asked = f"in the first of {report.seen}" if settings.follow else f"in each of {report.seen}"
    lines = [
        f"**Fidelity.** This model and {_original(report.original, source)} got the same prompts, {prompts} {asked}, and "
        f"every mask was compared with the original's ({_how(report)}). {_INTERVALS}",
        table(_FIDELITY, list(_fidelity_rows(report))),
    ]
    if report.control is not None:
        lines.append("The last row shows, for comparison, how much rounding the original to bfloat16 changes.")
    cosine = report.fidelity.embedding_cosine
    lines.append(
        f"Cosine similarity of the image embeddings: {number(cosine.value, 5)} (95 % interval {cosine.interval(5)}), "
        f"lowest {number(report.fidelity.embedding_cosine_min, 5)}."
    )
    return "\n\n".join(lines)


def _fidelity_rows(report: FidelityReport) -> Iterator[list[str]]:
    for name, agreement in report.fidelity.groups.items():
        yield [name, *_agreement(agreement)]
    if report.control is not None:
        yield ["all, original in bfloat16", *_agreement(report.control.all)]


def _agreement(found: Agreement) -> list[str]:
    return [
        f"{found.masks:,}",
        number(found.iou_mean.value, 4),
        found.iou_mean.interval(),
        number(found.iou_min, 4),
        found.faithful.percent(1),
        number(found.boundary_iou.value, 4),
    ]


def _accuracy(report: AccuracyReport, source: str | None) -> str:
    against = ""
    if report.original is not None:
        original = _original(report.original, source)
        against = f" {original[0].upper()}{original[1:]} got the same prompts."
    rows = [
        _accuracy_row(model, found)
        for ours in report.accuracy
        for model, group in (("this", report.accuracy), ("original", report.original_accuracy))
        for found in group
        if found.prompt == ours.prompt
    ]
    lines = [
        f"**Accuracy.** Masks of {counted(report.objects, 'object')} in {counted(report.pictures, 'picture')} of "
        f"{code(report.annotations_name)} ({report.annotation_format}) were compared with the annotations. What counts: "
        f"{report.measured} ({_how(report)}).{against} {_INTERVALS}",
        table(_ACCURACY, rows),
    ]
    if report.drops:
        drops = "; ".join(f"prompted by {drop.prompt}: {drop.described}" for drop in report.drops)
        lines.append(f"Relative drop against the original, {drops}.")
    return "\n\n".join(lines)


def _accuracy_row(model: str, found: PromptAccuracy) -> list[str]:
    return [
        found.prompt,
        model,
        f"{found.masks:,}",
        number(None if found.miou is None else found.miou.value, 4),
        "–" if found.miou is None else found.miou.interval(),
        number(None if found.precision is None else found.precision.ap, 4),
    ]


def _original(original: EvaluatedModel, source: str | None) -> str:
    """Return what to call the original: its name and hash, if it is not the checkpoint that the file was made from."""
    if original.sha256 == source:
        return "the original"
    named = f"{code(original.name)} (SHA-256 {code(original.sha256)})"
    return named if source is None else f"{named}, which is not the checkpoint that it was converted from,"


def _how(report: Evaluation) -> str:
    settings = report.settings
    computed = "" if settings.compute == "exact" else f", computed in {settings.compute}"
    return f"weights in {code(settings.dtype)}{computed}; {code(report.generator)}, {code(report.environment.described, 200)}"
