"""Results of evaluations in a card's metadata, as the Hub reads them: `model-index`.

The Hub's newer `.eval_results/` files are for benchmark data sets that are on the Hub, so they cannot hold results on pictures
of a publisher's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from bhk.base.errors import shown
from bhk.evaluation.intervals import Estimate
from bhk.evaluation.results import AccuracyReport, FidelityReport
from bhk.publishing.content import CardContent, Evaluation, PublishedFile

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

MODEL_INDEX = "model-index"
_TASK = ("mask-generation", "Mask Generation")
_OURS = "file_sha256"  # the argument that only metrics of bhk have
_DIGITS = 4


def model_index(content: CardContent, before: object) -> Any:
    """Return the model index of a card with what was measured about its files; None if there is nothing in it.

    Results that others wrote into `before`, the index of the existing card, are kept. So are those of bhk about a file that
    was not evaluated anew.
    """
    entries: list[dict[str, Any]] = []
    if isinstance(before, list):
        entries = before
    if before is not None and not _is_index(before):
        return before
    kept = {file.sha256 for file in content.files if not file.evaluations}
    entries = [entry | {"results": [found for found in entry["results"] if _stays(found, kept)]} for entry in entries]
    ours = _index(content)
    name = PurePosixPath(content.repository).name
    same = next((entry for entry in entries if entry.get("name") == name), None)
    if same is not None:
        same["results"] += ours
    elif ours:
        entries.append({"name": name, "results": ours})
    return [entry for entry in entries if entry["results"]] or None


def _is_index(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("results"), list) for entry in value
    )


def _stays(result: Any, kept: set[str]) -> bool:
    """Return whether a result is not one of bhk, or about a file in `kept`."""
    metrics = result.get("metrics") if isinstance(result, dict) else None
    hashes = {
        metric["args"][_OURS]
        for metric in (metrics if isinstance(metrics, list) else ())
        if isinstance(metric, dict) and isinstance(metric.get("args"), dict) and _OURS in metric["args"]
    }
    return not hashes or not hashes.isdisjoint(kept)


def _index(content: CardContent) -> list[dict[str, Any]]:
    """Return the results about the files that were evaluated."""
    from huggingface_hub.repocard_data import eval_results_to_model_index  # slow to import

    results = [
        result
        for file in content.files
        for evaluation in file.evaluations
        for result in _results(file, evaluation, several=len(content.files) > 1)
    ]
    index: list[dict[str, Any]] = eval_results_to_model_index("", results)
    return index[0]["results"] if results else []


def _results(file: PublishedFile, evaluation: Evaluation, *, several: bool) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    kind, pictures = _pictures(evaluation)
    common: dict[str, Any] = {"file": file.name, _OURS: file.sha256, "pictures": evaluation.pictures}
    common["seed"] = evaluation.settings.seed
    for metric, name, value in _metrics(evaluation):
        interval = [] if value.low is None or value.high is None else [value.low, value.high]
        yield EvalResult(
            task_type=_TASK[0],
            task_name=_TASK[1],
            dataset_type=kind,
            dataset_name=pictures,
            metric_type=metric,
            metric_name=f"{name} ({file.name})" if several else name,
            metric_value=round(value.value, _DIGITS),
            metric_args=common | ({"interval_95": [round(end, _DIGITS) for end in interval]} if interval else {}),
        )


def _pictures(evaluation: Evaluation) -> tuple[str, str]:
    """Return the type and the name of the data that an evaluation used."""
    if isinstance(evaluation, AccuracyReport):
        return evaluation.annotation_format, shown(evaluation.annotations_name)
    return "pictures", "pictures of the publisher, without annotations"


def _metrics(evaluation: Evaluation) -> Iterator[tuple[str, str, Estimate]]:
    """Yield the type, the name and the value of each metric."""
    if isinstance(evaluation, FidelityReport):
        yield "mean_iou", "mean IoU with the original's masks", evaluation.fidelity.all.iou_mean
        return
    for found in evaluation.accuracy:
        if found.miou is not None:
            yield "mean_iou", f"mIoU, prompted by {found.prompt}", found.miou
        if found.precision is not None and found.precision.ap is not None:
            yield "map", f"mask AP, prompted by {found.prompt}", Estimate(found.precision.ap, None, None)
