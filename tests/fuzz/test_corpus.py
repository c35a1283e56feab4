"""What fuzzing starts from and what it has found, read again; and a few changes of each, as the fuzzer makes them.

Whatever a stranger's file holds, a reader ends with an error of its own or with values (promise 9 of SECURITY.md).
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tools.fuzz.targets import TARGETS, DisagreementError, container

CORPUS = Path(__file__).parent / "corpus"
_CHANGES = 120  # for each target


def _inputs(name: str) -> list[bytes]:
    return [*TARGETS[name].seeds(), *(path.read_bytes() for path in sorted((CORPUS / name).glob("*")))]


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_are_read_or_refused(name: str) -> None:
    for data in _inputs(name):
        TARGETS[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs_are_read_or_refused(name: str) -> None:
    draw, target = random.Random(20), TARGETS[name]

    def mutate(data: bytes) -> bytes:
        changed = bytearray(data or b"\0")
        for _ in range(draw.randrange(1, 4)):
            changed[draw.randrange(len(changed))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        return bytes(changed)

    inputs = list(target.seeds())
    changed = [target.change(draw.choice(inputs), draw, mutate) for _ in range(_CHANGES)]
    assert len(set(changed) - set(inputs)) > _CHANGES // 2
    for data in changed:
        target.run(data)


def test_the_corpus_has_no_other_target() -> None:
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} <= TARGETS.keys()


def test_readers_that_disagree_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.corruption.readers.bhk.load_state_dict", lambda path, threads: {})
    with pytest.raises(DisagreementError, match="bhk: differs"):
        container(next(data for data in TARGETS["container"].seeds() if len(data) > 128))
