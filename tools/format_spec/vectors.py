"""Write the test vectors of the format, or check that they are up to date.

    python -m tools.format_spec.vectors [--check]

No library decides the bytes: zstd frames are built by hand or recorded. A bad file differs from a good one by a small change
that breaks one rule, which its name starts with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from itertools import chain
from pathlib import Path

from tools.format_spec import bad_compressed, bad_header_text, bad_header_values, bad_streams
from tools.format_spec.good import GOOD
from tools.format_spec.good_coded import CODED
from tools.format_spec.good_compressed import COMPRESSED

FOLDER = Path(__file__).parents[2] / "format_spec" / "vectors"


def vectors() -> dict[str, bytes]:
    """Return the content of each file by its path in the folder."""
    made: dict[str, bytes] = {}
    manifest = {}
    for name, make in {**GOOD, **CODED, **COMPRESSED}.items():
        draft = make()
        made[f"good/{name}.bhk"] = draft.encode()
        made[f"good/{name}.json"] = _json(draft.expected)
        manifest[f"good/{name}.bhk"] = "good"
    bad = (bad_header_text, bad_header_values, bad_streams, bad_compressed)
    for name, file in chain.from_iterable(module.files() for module in bad):
        path = f"bad/{name}.bhk"
        assert path not in made, path
        made[path] = file
        manifest[path] = name.partition("_")[0]
    entries = {p: {"verdict": v, "sha256": hashlib.sha256(made[p]).hexdigest()} for p, v in sorted(manifest.items())}
    return {**made, "manifest.json": _json(entries)}


def _json(entries: dict[str, object]) -> bytes:
    """Return JSON with one entry a line."""
    lines = (f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(entries[key])}" for key in entries)
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is stale")
    check = parser.parse_args().check
    made = vectors()
    there = {p.relative_to(FOLDER).as_posix(): p for p in FOLDER.rglob("*") if p.is_file()}
    stale = sorted(
        {p for p in made if p not in there or there[p].read_bytes() != made[p]} | (there.keys() - made.keys())
    )
    if check and stale:
        raise SystemExit(f"format_spec/vectors/{stale[0]} is stale; run python -m tools.format_spec.vectors")
    for path in () if check else stale:
        target = FOLDER / path
        if path not in made:
            target.unlink()
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(made[path])


if __name__ == "__main__":
    main()
