"""Reading results of evaluations back from the JSON files that `save` wrote, for a model card."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bhk.base.errors import BhkError, shown
from bhk.evaluation.report import FORMAT, VERSION
from bhk.evaluation.results import AccuracyReport, FidelityReport
from bhk.evaluation.settings import SettingsError
from bhk.evaluation.several import EvaluationReport
from bhk.nn.errors import LoadOptionError


class EvaluationDocumentError(BhkError):
    """A file is not a result of `bhk eval`, or it is about another model than the published one."""


def read_reports(path: str | os.PathLike[str]) -> tuple[FidelityReport | AccuracyReport, ...]:
    """Return the reports in a JSON file that `save`, or `bhk eval --out`, wrote: one for each model.

    Raises:
        EvaluationDocumentError: the file cannot be read or holds something else.
    """
    name = shown(os.fsdecode(path))
    try:
        return tuple(_reports(Path(path).read_bytes(), name))
    except OSError as error:
        raise EvaluationDocumentError(f"cannot read {name}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, SettingsError, LoadOptionError) as error:
        raise EvaluationDocumentError(
            f"{name} is not a result of an evaluation ({shown(error)}); {_EXPECTED}"
        ) from error


class _Envelope(msgspec.Struct):
    format: str
    version: int
    protocol: str = ""
    reports: tuple[msgspec.Raw, ...] = ()


_EXPECTED = "expected a report of `bhk eval`, saved as JSON"
_REPORTS: dict[str, type[FidelityReport] | type[AccuracyReport]] = {
    report.protocol: report for report in (FidelityReport, AccuracyReport)
}


def _reports(data: bytes | msgspec.Raw, name: str) -> Iterator[FidelityReport | AccuracyReport]:
    envelope = msgspec.json.decode(data, type=_Envelope)
    if envelope.format != FORMAT:
        raise EvaluationDocumentError(f"{name} has the format {shown(envelope.format)!r}; {_EXPECTED}")
    if envelope.version != VERSION:
        raise EvaluationDocumentError(
            f"{name} has version {envelope.version} of the format, but this bhk reads version {VERSION}; update bhk"
        )
    if envelope.protocol == EvaluationReport.protocol:
        for report in envelope.reports:
            yield from _reports(report, name)
    elif envelope.protocol in _REPORTS:
        yield msgspec.json.decode(data, type=_REPORTS[envelope.protocol])
    else:
        raise EvaluationDocumentError(f"{name} is a result of {shown(envelope.protocol)!r}; {_EXPECTED}")
