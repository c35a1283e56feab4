"""Results of evaluations as text and tables of a card."""

from __future__ import annotations

from collections.abc import Iterator

from bhk.base.texts import number
from bhk.publishing.markdown import code, table
from bhk.publishing.results import AccuracyResult, Agreement, FidelityResult, Interval, PromptAccuracy, Result, Subject

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
    ("asked by", "left"),
    ("model", "left"),
    ("masks", "right"),
    ("mIoU", "right"),
    ("95 % interval", "right"),
    ("AP", "right"),
]

_INTERVALS = "Intervals hold with 95 % confidence, over pictures (bootstrap)."


def result_text(result: Result, source: str | None) -> str:
    """Return what a result says, with how it was measured.

    Args:
        source: SHA-256 of the checkpoint that the model was made from, if it is known.
    """
    return _fidelity(result, source) if isinstance(result, FidelityResult) else _accuracy(result, source)


def _fidelity(result: FidelityResult, source: str | None) -> str:
    settings = result.settings
    asked = " and ".join(
        f"{count} {one if count == 1 else many}"
        for count, one, many in ((settings.points, "point", "points"), (settings.boxes, "box", "boxes"))
        if count
    )
    lines = [
        f"**Fidelity.** The model and {_original(result.original, source)} were asked the same about "
        f"{_pictures(result.pictures)}, {asked} in each, and every mask was compared with the original's "
        f"({_how(settings.dtype, settings.compute)}; {code(result.generator)}). {_INTERVALS}",
        table(_FIDELITY, list(_fidelity_rows(result))),
    ]
    if result.control is not None:
        lines.append("The last row is what rounding the original to bfloat16 changes, to compare with.")
    cosine = result.fidelity.embedding_cosine
    lines.append(
        f"Cosine of the image embeddings: {number(cosine.value, 5)}, 95 % interval {_interval(cosine, 5)}, "
        f"lowest {number(result.fidelity.embedding_cosine_min, 5)}."
    )
    return "\n\n".join(lines)


def _fidelity_rows(result: FidelityResult) -> Iterator[list[str]]:
    found = result.fidelity
    groups = {"points": found.points, "boxes": found.boxes, "boxes, single mask": found.single, "all": found.all}
    for name, agreement in groups.items():
        if agreement is not None:
            yield [name, *_agreement(agreement)]
    if result.control is not None:
        yield ["all, original in bfloat16", *_agreement(result.control.all)]


def _agreement(found: Agreement) -> list[str]:
    return [
        f"{found.masks:,}",
        number(found.iou_mean.value, 4),
        _interval(found.iou_mean),
        number(found.iou_min, 4),
        _percent(found.faithful.value, 1),
        number(found.boundary_iou.value, 4),
    ]


def _accuracy(result: AccuracyResult, source: str | None) -> str:
    settings = result.settings
    which = "best scored mask of the multimask output" if settings.output == "multi" else "single mask"
    against = f" {_original(result.original, source)} was asked the same." if result.original else ""
    rows = [
        _prompt(model, found)
        for ours in result.accuracy
        for model, group in (("this", result.accuracy), ("original", result.original_accuracy))
        for found in group
        if found.prompt == ours.prompt
    ]
    lines = [
        f"**Accuracy.** {result.objects:,} objects in {_pictures(result.pictures)} of {code(result.truth)} "
        f"({result.annotation_format}); the {which} of each counts ({_how(settings.dtype, settings.compute)}; "
        f"{code(result.generator)}).{against[:2].upper()}{against[2:]} {_INTERVALS}",
        table(_ACCURACY, rows),
    ]
    if result.drops:
        drops = "; ".join(
            f"asked by {drop.prompt} {_percent(drop.miou.value, 2)} "
            f"({_percent(drop.miou.low, 2)} … {_percent(drop.miou.high, 2)})"
            for drop in result.drops
        )
        lines.append(f"Relative drop of mIoU against the original: {drops}.")
    return "\n\n".join(lines)


def _prompt(model: str, found: PromptAccuracy) -> list[str]:
    return [
        found.prompt,
        model,
        f"{found.masks:,}",
        number(None if found.miou is None else found.miou.value, 4),
        "–" if found.miou is None else _interval(found.miou),
        number(None if found.precision is None else found.precision.ap, 4),
    ]


def _original(original: Subject, source: str | None) -> str:
    """Return what to call the model that was compared with: by its hash if it is not what this one was made from."""
    if original.sha256 == source:
        return "the original"
    named = f"{code(original.name)} (SHA-256 {code(original.sha256)})"
    return named if source is None else f"{named}, which is not the file that this was made from,"


def _how(dtype: str, compute: str) -> str:
    return f"weights in {code(dtype)}" + ("" if compute == "exact" else f", computed in {compute}")


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _interval(found: Interval, digits: int = 4) -> str:
    return "–" if found.low is None else f"{number(found.low, digits)} … {number(found.high, digits)}"


def _percent(share: float | None, digits: int) -> str:
    return number(None if share is None else 100 * share, digits, " %")
