"""What an evaluation of many pictures costs, computed from the times of whole models on a CPU and of merging results."""

from __future__ import annotations

from tools.scale_simulation import Cluster
from tools.speed_tables import Rows, line

SA1B = 11_185_362  # pictures
OBJECTS = 100  # annotated objects in a picture of SA-1B, on average
ANSWERS = 64  # of each model to the default prompts of `bhk eval`: 32 points, and 16 boxes asked twice
SAMPLE = 10_000  # pictures
HOURS_A_YEAR = 24 * 365.25
ARCHIVES, ARCHIVE_GB = 1000, 11  # of SA-1B, with masks
MODEL = "SAM-B"  # of the tables about a whole evaluation
SHARD = 4  # pictures of a file of results
NOT_YET = "This has not been measured on a quiet machine yet; `python -m tools.bench {}` does that."


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


def cores(rows: Rows) -> list[str]:
    """Return the table of an evaluation of all of SA-1B with annotations, one line a number of cores."""
    sides = {row["side"]: row for row in rows if row["model"] == MODEL}
    seconds = sum(_core_seconds(sides[side], OBJECTS) for side in ("dense", "bhk exact"))
    bytes_read = ARCHIVES * ARCHIVE_GB * 1e9 / SA1B
    lines = [
        "| cores | days | pictures a second | read, MB a second | files of results an hour |",
        "|--:|--:|--:|--:|--:|",
    ]
    for count in (100, 1_000, 10_000):
        rate = count / seconds
        figures = (SA1B / rate / 86400, rate, rate * bytes_read / 1e6, 3600 * rate / SHARD)
        lines.append(line([f"{count:,}", *(f"{figure:,.{int(figure < 10)}f}" for figure in figures)], bold=False))
    return lines


def merging(rows: Rows) -> list[str]:
    """Return the table of measured merges, and what follows for all of SA-1B; a sentence if they have not been measured."""
    if not rows:
        return [NOT_YET.format("merge")]
    lines = [
        "| results | pictures | masks a picture | stored, kB a picture | seconds | memory, MB |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        figures = (float(row["seconds"]), float(row["peak_mib"]) * 2**20 / 1e6)
        cells = [f"{int(row['pictures']):,}", row["masks"], f"{float(row['bytes']) / 1000:.1f}"]
        lines.append(line([row["protocol"], *cells, *(f"{figure:,.0f}" for figure in figures)], bold=False))
    found = []
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        small, large = _most_alike(rows, protocol)
        pictures = int(large["pictures"]) - int(small["pictures"])
        if pictures:
            hours, mib = ((float(large[name]) - float(small[name])) / pictures for name in ("seconds", "peak_mib"))
            figures = f"{hours * SA1B / 3600:.1f} hours and {mib * 2**20 * SA1B / 1e9:.0f} GB"
            found.append(f"{figures} for {protocol} with {small['masks']} masks a picture")
    return [*lines, *(["", f"At this rate, all of SA-1B takes {', and '.join(found)}."] if found else [])]


def throughput(rows: Rows) -> list[str]:
    """Return the table of engines on one machine; a sentence if they have not been measured."""
    if not rows:
        return [NOT_YET.format("cluster")]
    lines = ["| engine | workers | seconds for {:,} pictures | pictures a second |", "|---|--:|--:|--:|"]
    lines[0] = lines[0].format(int(rows[0]["pictures"]))
    names = {"processes": "processes", "ray": "Ray"}
    for row in rows:
        cells = [names[row["engine"]], row["workers"], f"{float(row['seconds']):.0f}", row["pictures_a_second"]]
        lines.append(line(cells, bold=False))
    return lines


def uneven(rows: Rows) -> list[str]:
    """Return the table of simulated evaluations on workers of unequal speed, as the time over that without any waste."""
    sides = {row["side"]: row for row in rows if row["model"] == MODEL}
    each = SHARD * sum(_core_seconds(sides[side], OBJECTS) for side in ("dense", "bhk exact"))
    workers, shards = 64, SAMPLE // SHARD
    lines = [
        "| speeds differ by | workers lost | a part for each worker | four parts each | Ray |",
        "|--:|--:|--:|--:|--:|",
    ]
    for spread, lost in ((0.0, 0.0), (0.1, 0.0), (0.3, 0.0), (0.1, 0.1), (0.3, 0.1)):
        times = [
            sum(Cluster(workers, spread, lost, seed).ended(shards, tasks, each) for seed in range(20)) / 20
            for tasks in (workers, 4 * workers, shards)
        ]
        hours = [f"{time / 3600:.1f} h" for time in times]
        lines.append(line([f"{spread:.0%}", f"{lost:.0%}", *hours], bold=False))
    return lines


def _most_alike(rows: Rows, protocol: str) -> Rows:
    """Return the smallest and the largest merge of a protocol that has the same number of masks."""
    some = [row for row in rows if row["protocol"] == protocol]
    alike = sorted((row for row in some if row["masks"] == some[0]["masks"]), key=lambda row: int(row["pictures"]))
    return [alike[0], alike[-1]]


def _core_seconds(row: dict[str, str], answers: int) -> float:
    """Return the seconds of one core for a picture and answers about it."""
    return int(row["threads"]) * (float(row["encoder_s"]) + answers * float(row["prompt_s"]))
