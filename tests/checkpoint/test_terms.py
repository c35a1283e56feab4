from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from bhk.checkpoint import read
from bhk.checkpoint.terms import LICENSE_KEY, TERMS_KEY, terms_beside, terms_of

CARD = """---
license: other
license_name: sam-license
license_link: LICENSE
extra_gated_prompt: Do no harm.
extra_gated_fields:
  Country: country
  I accept: checkbox
tags: [segmentation]
---
# A model
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a checkpoint."""
    torch.save({"weight": torch.ones(4, 4)}, tmp_path / "sam.pth")
    return tmp_path


def test_license_and_gate_of_a_repository_are_kept(folder: Path) -> None:
    (folder / "README.md").write_text(CARD)
    (folder / "LICENSE.txt").write_text("SAM License\nBe fair: é.\n", "utf-8")
    entries, faults = terms_beside(read(folder / "sam.pth"))
    assert faults == ()
    terms = terms_of(entries)
    assert terms.license == "SAM License\nBe fair: é.\n"
    assert terms.card["license_name"] == "sam-license"
    assert "tags" not in terms.card
    gate = {"extra_gated_prompt": "Do no harm.", "extra_gated_fields": {"Country": "country", "I accept": "checkbox"}}
    assert terms.gate == gate


@pytest.mark.parametrize("card", [None, "# A program\n"])
def test_the_license_of_a_program_is_not_that_of_its_weights(folder: Path, card: str | None) -> None:
    (folder / "LICENSE").write_text("MIT")
    if card is not None:
        (folder / "README.md").write_text(card)
    assert terms_beside(read(folder / "sam.pth")) == ({}, ())


@pytest.mark.parametrize(
    ("card", "license", "fault"),
    [
        ("---\nlicense: [\n---\n", b"MIT", r"because of README\.md beside it: the card's metadata is not YAML"),
        ("---\nextra_gated_fields: {since: 2026-01-01}\n---\n", b"MIT", "such as dates or NaN"),
        (f"---\nextra_gated_prompt: {'x' * 64_000}\n---\n", b"MIT", "more than 64,000 bytes"),
        ("---\nlicense: mit\nflag: !!bool x\n---\n", b"MIT", "is not YAML"),
        ("---\nlicense: mit\nsize: !!int ''\n---\n", b"MIT", "is not YAML"),
        ("---\nlicense: mit\n---\n", b"\xff", "LICENSE is not kept in the .bhk file"),
        ("---\nlicense: mit\n---\n", b"a" * 64_001, "larger than 64,000 bytes"),
    ],
)
def test_what_cannot_be_kept_is_named(folder: Path, card: str, license: bytes, fault: str) -> None:
    (folder / "README.md").write_text(card)
    (folder / "LICENSE").write_bytes(license)
    _, faults = terms_beside(read(folder / "sam.pth"))
    (found,) = faults
    assert re.search(fault, found)


def test_terms_of_another_writer() -> None:
    assert terms_of({TERMS_KEY: "{", LICENSE_KEY: "a" * 64_001}) == terms_of({})
    assert terms_of({TERMS_KEY: '{"license": "mit", "tags": ["a"], "auto_map": {}}'}).card == {"license": "mit"}
