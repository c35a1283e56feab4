"""Lines of Python that load a published model, for its card and for the end of `bhk push`."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from bhk.base.errors import shown
from bhk.base.names import BHK_SUFFIX, CHECKPOINT_SUFFIXES
from bhk.hub.address import SCHEME
from bhk.hub.upload import MAIN
from bhk.publishing.content import CardContent, PublishedFile

LONGEST = 255  # characters of a file name


def usage(content: CardContent, revision: str = MAIN) -> tuple[str, ...]:
    """Return how to load the first file, with transformers if it can."""
    first = content.files[0]
    lines = (
        transformers_lines(content, first, revision)
        if transformers_class(content, first)
        else bhk_lines(content, first, revision)
    )
    return tuple(line for line in lines if line)


def transformers_class(content: CardContent, file: PublishedFile) -> str | None:
    """Return the class of transformers that loads the repository; None if there is none, or several files."""
    return file.transformers_class if len(content.files) == 1 else None


def transformers_lines(content: CardContent, file: PublishedFile, revision: str = MAIN) -> list[str]:
    """Return how transformers loads the model."""
    name, at = file.transformers_class, "" if revision == MAIN else f", revision={_quoted(revision)}"
    return [
        "import bhk.transformers  # lets transformers read .bhk",
        f"from transformers import {name}",
        "",
        f"model = {name}.from_pretrained({_quoted(content.repository)}{at})",
    ]


def bhk_lines(content: CardContent, file: PublishedFile, revision: str = MAIN) -> list[str]:
    """Return how bhk builds the model, or loads the file into a module that the user has built."""
    if file.family is not None:
        return ["import bhk", "", f"model = bhk.load({_quoted(address(content, file, revision))})"]
    return [
        "import bhk",
        "",
        "model = ...  # build the module as its authors do",
        f"bhk.load_into(model, {_quoted(full_address(content, file, revision))})",
    ]


def address(content: CardContent, file: PublishedFile, revision: str = MAIN) -> str:
    """Return the address of a file: the repository alone if it is enough and cannot be taken for a path."""
    like_a_file = PurePosixPath(content.repository).suffix in (BHK_SUFFIX, *CHECKPOINT_SUFFIXES)
    if like_a_file or len(content.files) > 1 or revision != MAIN:
        return full_address(content, file, revision)
    return content.repository


def full_address(content: CardContent, file: PublishedFile, revision: str = MAIN) -> str:
    """Return the "hf://" address of a file."""
    name = f"/{shown(file.name, LONGEST)}" if len(content.files) > 1 else ""
    return f"{SCHEME}{content.repository}{name}" + ("" if revision == MAIN else f"@{revision}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
