"""Results of evaluations as text and tables of a card."""

from __future__ import annotations

from collections.abc import Iterator

from bhk.figures import number
from bhk.publishing.markdown import code, table
from bhk.publishing.results import AccuracyResult, Agreement, FidelityResult, Interval, PromptAccuracy, Result

_FIDELITY = [
    ("masks of", "left"),
    ("number", "right"),
    ("mean IoU", "right"),
    ("95 % interval", "right"),
    ("lowest", "right"),
    ("≥ 0.95", "right"),
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


def result_text(result: Result) -> str:
    """Return what a result says, with how it was measured."""
    return _fidelity(result) if isinstance(result, FidelityResult) else _accuracy(result)


def _fidelity(result: FidelityResult) -> str:
    settings = result.settings
    asked = " and ".join(
        f"{count} {kind}{'s' if count > 1 else ''}"
        for count, kind in ((settings.points, "point"), (settings.boxes, "box"))
        if count
    ).replace("boxs", "boxes")
    lines = [
        f"**Fidelity.** The model and the original ({code(result.original.name)}, SHA-256 {code(result.original.sha256)}) "
        f"were asked the same about {_pictures(result.pictures)}: {asked} in each. Every mask was compared with the "
        f"original's ({_how(settings.dtype, settings.compute)}; {code(result.generator)}, no annotations needed).",
        table(_FIDELITY, list(_fidelity_rows(result))),
        f"Image embedding: cosine {number(result.fidelity.embedding_cosine.value, 5)} "
        f"({_interval(result.fidelity.embedding_cosine, 5)}), lowest {number(result.fidelity.embedding_cosine_min, 5)}.",
    ]
    if result.control is not None:
        lines.append(
            "The last row is the original in bfloat16 compared with itself: a change that people accept without a thought."
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


def _accuracy(result: AccuracyResult) -> str:
    settings = result.settings
    which = "best scored mask of the multimask output" if settings.output == "multi" else "single mask"
    against = (
        ""
        if result.original is None
        else f" The original is {code(result.original.name)}, SHA-256 {code(result.original.sha256)}."
    )
    rows = [_prompt("this", found) for found in result.accuracy]
    rows += [_prompt("original", found) for found in result.original_accuracy]
    rows.sort(key=lambda row: [found.prompt for found in result.accuracy].index(row[0]))
    lines = [
        f"**Accuracy.** {_pictures(result.pictures).capitalize()} with {result.objects:,} objects of {code(result.truth)} "
        f"({code(result.annotation_format)}); the {which} counts ({_how(settings.dtype, settings.compute)}; "
        f"{code(result.generator)}).{against}",
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


def _how(dtype: str, compute: str) -> str:
    return f"weights in {dtype}" + ("" if compute == "exact" else f", computed in {compute}")


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _interval(found: Interval, digits: int = 4) -> str:
    return f"{number(found.low, digits)} … {number(found.high, digits)}"


def _percent(share: float | None, digits: int) -> str:
    return number(None if share is None else 100 * share, digits, " %")
