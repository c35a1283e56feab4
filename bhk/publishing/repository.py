"""The files of a repository on the Hub: .bhk files, configuration files, and what the publisher adds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bhk.base.errors import BhkError, shown
from bhk.base.names import BHK_SUFFIX, MODEL_FILE
from bhk.base.strict_json import StrictJsonError, parse_object
from bhk.checkpoint.companions import COMPANIONS, CONFIG, companions_of
from bhk.checkpoint.terms import LICENSE, LICENSES, terms_of
from bhk.checkpoint.tokenizer import tokenizer_files
from bhk.container.header import Header
from bhk.container.reader import Container
from bhk.hub.upload import LocalFile
from bhk.publishing.configuration import StoredConfigError, make_config

README = "README.md"
_MADE = (README, *COMPANIONS)
_OF_GIT = ".git"  # prefix of the names of files that configure git, and so the Hub


class UnpublishableFileError(BhkError):
    """A file cannot be published: it is missing, empty or damaged, or its name cannot be used."""


def weight_files(files: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """Return .bhk files by their names in the repository: a single one becomes model.bhk, several keep their names.

    Raises:
        UnpublishableFileError: there are none, two have the same name, or a name cannot be used in a repository.
    """
    paths = [Path(file) for file in files]
    if not paths:
        raise UnpublishableFileError(f"there are no {BHK_SUFFIX} files to publish; give at least one")
    if len(paths) == 1:
        return {MODEL_FILE: paths[0]}
    for path in paths:
        if path.suffix != BHK_SUFFIX:
            raise UnpublishableFileError(
                f"{_named(path)} does not end in {BHK_SUFFIX}, and several files keep their names; rename it, or convert it "
                "if it is a checkpoint"
            )
    return _by_name(paths, ())


def repository_files(weights: dict[str, Path], include: Iterable[str | os.PathLike[str]] = ()) -> tuple[LocalFile, ...]:
    """Return every file of a repository except its card.

    Args:
        weights: .bhk files by their names in the repository; the first one brings the configuration files and its tokenizer,
            and all of them their license, unless one is included.
        include: more files, which keep their base names.

    Raises:
        UnpublishableFileError: a file to include is missing, empty or not a file, or its name is taken; or the files carry
            several licenses.
        StoredConfigError: a configuration file in the first .bhk file cannot be published.
        ReadError, FormatError: a .bhk file cannot be read or breaks a rule of the format.
    """
    included = [Path(path) for path in include]
    headers, files = {}, []
    for name, path in weights.items():
        with Container.open(path) as container:
            headers[name] = container.header
            files.append(LocalFile(name, path))
    name, header = next(iter(headers.items()))
    others = _by_name([*_tokenizer(weights[name], header, included), *included], weights)
    for path in others.values():
        _check(path)
    return (
        *files,
        LocalFile(CONFIG, make_config(header, name).encode("utf-8")),
        *_companions(header),
        *_license(headers.values(), others),
        *(LocalFile(name, path) for name, path in others.items()),
    )


def _tokenizer(path: Path, header: Header, included: Sequence[Path]) -> list[Path]:
    """Return the files of the tokenizer of a model of transformers, except those that are included anyway."""
    if CONFIG not in companions_of(header.metadata):
        return []
    taken = {other.name for other in included}
    return [found for found in tokenizer_files(path, header.metadata.get("source.name")) if found.name not in taken]


def _license(headers: Iterable[Header], others: Iterable[str]) -> Iterator[LocalFile]:
    """Yield the text of the license that the .bhk files carry, unless the publisher includes one."""
    texts = dict.fromkeys(text for header in headers if (text := terms_of(header.metadata).license))
    if not texts or not {name.casefold() for name in others}.isdisjoint(name.casefold() for name in LICENSES):
        return
    if len(texts) > 1:
        raise UnpublishableFileError(
            f"the files carry {len(texts)} different texts of their {LICENSE}; include the one that applies, or publish apart"
        )
    yield LocalFile(LICENSE, next(iter(texts)).encode("utf-8"))


def _companions(header: Header) -> Iterator[LocalFile]:
    for name, text in companions_of(header.metadata).items():
        if name != CONFIG:
            try:
                value = parse_object(text.encode("utf-8"))
            except StrictJsonError as error:
                raise StoredConfigError(
                    f"the stored {name} is damaged ({shown(error)}); convert the checkpoint again"
                ) from error
            yield LocalFile(name, (json.dumps(value, indent=2) + "\n").encode("ascii"))


def _by_name(paths: Iterable[Path], taken: Iterable[str]) -> dict[str, Path]:
    """Return files by their base names, which must be free. Case is ignored, as on many file systems."""
    named: dict[str, Path] = {}
    folded = {name.casefold() for name in (*_MADE, *taken)}
    for path in paths:
        name = path.name
        if name in _MADE:
            advice = "give a template for the text of the card" if name == README else "leave it out"
            raise UnpublishableFileError(f"{_named(path)}: {name} is generated from the .bhk file; {advice}")
        if name.casefold() in folded:
            raise UnpublishableFileError(
                f"{_named(path)}: another file of the repository has this name; rename one of them"
            )
        if not name.isprintable() or not name.strip() or "\\" in name or name.startswith(_OF_GIT):
            raise UnpublishableFileError(f"{_named(path)}: the Hub does not accept this file name; rename it")
        if "@" in name and name.endswith(BHK_SUFFIX):
            raise UnpublishableFileError(
                f"{_named(path)}: hf:// addresses use @ for revisions; rename the file without it"
            )
        named[name] = path
        folded.add(name.casefold())
    return named


def _check(path: Path) -> None:
    """Check a file that is published unchanged."""
    if path.suffix == BHK_SUFFIX:
        raise UnpublishableFileError(
            f"{_named(path)} is a .bhk file; list it with the other .bhk files, so that it is checked"
        )
    try:
        if not path.is_file():
            found = (
                "is a folder; give its files"
                if path.is_dir()
                else "is not a file"
                if path.exists()
                else "does not exist"
            )
            raise UnpublishableFileError(f"{_named(path)} {found}")
        with path.open("rb") as file:
            if not file.read(1):
                raise UnpublishableFileError(f"{_named(path)} is empty; leave it out")
    except OSError as error:
        raise UnpublishableFileError(f"cannot read {_named(path)}: {error.strerror or error}") from error


def _named(path: Path) -> str:
    return shown(os.fsdecode(path))
