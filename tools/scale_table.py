"""What an evaluation of many pictures costs, computed from the times of whole models on a CPU."""

from __future__ import annotations

from tools.speed_tables import Rows, line

SA1B = 11_185_362  # pictures
OBJECTS = 100  # annotated objects in a picture of SA-1B, on average
ANSWERS = 64  # of each model to the default prompts of `bhk eval`: 32 points, and 16 boxes asked twice
SAMPLE = 10_000  # pictures
HOURS_A_YEAR = 24 * 365.25


def scale(rows: Rows) -> list[str]:
    """Return the table of costs, one line a model: it and its original on one core each."""
    sides = {(row["model"], row["side"]): row for row in rows if row["encoder_s"]}
    lines = [
        "| model | fidelity, s a picture | accuracy, s a picture | 10,000 pictures, core hours | SA-1B, core years |",
        "|---|--:|--:|--:|--:|",
    ]
    for model in dict.fromkeys(row["model"] for row in rows):
        if (model, "dense") not in sides or (model, "bhk exact") not in sides:
            continue
        pair = [sides[model, side] for side in ("dense", "bhk exact")]
        fidelity, accuracy = (sum(_core_seconds(row, answers) for row in pair) for answers in (ANSWERS, OBJECTS))
        hours = accuracy * SAMPLE / 3600
        years = accuracy * SA1B / 3600 / HOURS_A_YEAR
        lines.append(line([model, *(f"{value:,.0f}" for value in (fidelity, accuracy, hours, years))], bold=False))
    return lines


def _core_seconds(row: dict[str, str], answers: int) -> float:
    """Return the seconds of one core for a picture and answers about it."""
    return int(row["threads"]) * (float(row["encoder_s"]) + answers * float(row["prompt_s"]))
