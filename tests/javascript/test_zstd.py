"""format_spec/js/zstd.mjs against libzstd."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from pathlib import Path

import pytest
import zstandard

from javascript.third_reader import NODE, ROOT

pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node")

_SCRIPT = """
import { readFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { contentSize, decompress, ZstdError } from "./format_spec/js/zstd.mjs";

const file = readFileSync(process.argv[1]);
const results = [];
for (let at = 0; at < file.length;) {
  const length = file.readUInt32LE(at), frame = new Uint8Array(file.subarray(at + 4, at + 4 + length));
  at += 4 + length;
  try {
    results.push(createHash("sha256").update(decompress(frame, contentSize(frame))).digest("hex"));
  } catch (error) {
    if (!(error instanceof ZstdError)) throw error;
    results.push(null);
  }
}
console.log(JSON.stringify(results));
"""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def decompressed(frames: list[bytes], folder: Path) -> list[str | None]:
    """Return the SHA-256 of the content of each frame; None for one that is refused."""
    path = folder / "frames"
    path.write_bytes(b"".join(len(frame).to_bytes(4, "little") + frame for frame in frames))
    command = [str(NODE), "--input-type=module", "--eval", _SCRIPT, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    return json.loads(run.stdout)  # type: ignore[no-any-return]


def contents() -> list[bytes]:
    """Data of many kinds: all block types, literal modes, sequence modes, repeated offsets, several blocks."""
    rng = random.Random(0)
    words = [rng.randbytes(rng.randint(3, 40)) for _ in range(200)]
    made = []
    for size in (0, 1, 5, 100, 257, 4097, 40_000, 150_000):
        made += [
            rng.randbytes(size),
            bytes(int(rng.gauss(128, 9)) for _ in range(size)),
            bytes(size),
            (rng.randbytes(97) * (size // 97 + 1))[:size],
            bytes(int(rng.expovariate(0.4)) for _ in range(size)),
            b"".join(rng.choices(words, k=size // 20)),
        ]
    return made


def frames_of(data: bytes, index: int) -> list[bytes]:
    levels = (-5, 1, 3, 9, 19) if len(data) < 100_000 else (1, 12)
    checksum = len(data) < 5000 and index % 2 == 0
    return [zstandard.ZstdCompressor(level=level, write_checksum=checksum).compress(data) for level in levels]


def test_it_decompresses_what_libzstd_compresses(tmp_path: Path) -> None:
    frames, expected = [], []
    for index, data in enumerate(contents()):
        made = frames_of(data, index)
        frames += made
        expected += [sha256(data)] * len(made)
    assert decompressed(frames, tmp_path) == expected


def test_changed_frames_are_refused_or_give_what_libzstd_gives(tmp_path: Path) -> None:
    rng = random.Random(1)
    frames = []
    for index, data in enumerate(data for data in contents() if 5 < len(data) < 5000):
        for frame in frames_of(data, index):
            for _ in range(12):
                changed = bytearray(frame)
                for _ in range(rng.randint(1, 3)):
                    changed[rng.randrange(6, len(changed))] = rng.randrange(256)
                frames.append(bytes(changed[: rng.choice([len(changed), len(changed), rng.randrange(len(changed))])]))
    found = decompressed(frames, tmp_path)
    assert any(found)
    assert not all(found)
    for frame, result in zip(frames, found, strict=True):
        if result is not None:
            assert sha256(zstandard.ZstdDecompressor().decompress(frame)) == result
