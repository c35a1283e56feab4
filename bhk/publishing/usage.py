"""Lines of Python that load a published model: on its card, and where `bhk push` ends."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from bhk.base.errors import shown
from bhk.base.names import BHK_SUFFIX, CHECKPOINT_SUFFIXES
from bhk.hub.address import SCHEME
from bhk.hub.upload import MAIN
from bhk.publishing.facts import CardFacts, FileFacts

LONGEST = 255  # characters of the name of a file


def usage(facts: CardFacts, revision: str = MAIN) -> tuple[str, ...]:
    """Return how to load the first file: as transformers does, if it can."""
    first = facts.files[0]
    lines = (
        transformers_lines(facts, first, revision)
        if transformers_class(facts, first)
        else bhk_lines(facts, first, revision)
    )
    return tuple(line for line in lines if line)


def transformers_class(facts: CardFacts, file: FileFacts) -> str | None:
    """Return the class of transformers that loads the repository; None when there is none, or of several files."""
    return file.transformers_class if len(facts.files) == 1 else None


def transformers_lines(facts: CardFacts, file: FileFacts, revision: str = MAIN) -> list[str]:
    """Return how transformers loads the model."""
    name, at = file.transformers_class, "" if revision == MAIN else f", revision={_quoted(revision)}"
    return [
        "import bhk.transformers  # lets transformers read .bhk",
        f"from transformers import {name}",
        "",
        f"model = {name}.from_pretrained({_quoted(facts.repository)}{at})",
    ]


def bhk_lines(facts: CardFacts, file: FileFacts, revision: str = MAIN) -> list[str]:
    """Return how bhk builds the model, or loads a file into a module that somebody has built."""
    if file.family is not None:
        return ["import bhk", "", f"model = bhk.load({_quoted(address(facts, file, revision))})"]
    return [
        "import bhk",
        "",
        "model = ...  # build the module as its authors do",
        f"bhk.load_into(model, {_quoted(full_address(facts, file, revision))})",
    ]


def address(facts: CardFacts, file: FileFacts, revision: str = MAIN) -> str:
    """Return what to call a file: by the repository alone if that is enough and looks like one."""
    like_a_file = PurePosixPath(facts.repository).suffix in (BHK_SUFFIX, *CHECKPOINT_SUFFIXES)
    if like_a_file or len(facts.files) > 1 or revision != MAIN:
        return full_address(facts, file, revision)
    return facts.repository


def full_address(facts: CardFacts, file: FileFacts, revision: str = MAIN) -> str:
    """Return the "hf://" address of a file."""
    name = f"/{shown(file.name, LONGEST)}" if len(facts.files) > 1 else ""
    return f"{SCHEME}{facts.repository}{name}" + ("" if revision == MAIN else f"@{revision}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
