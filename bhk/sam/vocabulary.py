"""The vocabulary of Meta's SAM 3: the list of pairs that its tokenizer joins, which the wheel of `sam3` on PyPI lacks.

It is CLIP's. Meta's repository has it as `bpe_simple_vocab_16e6.txt.gz`; transformers calls it `merges.txt`.
"""

from __future__ import annotations

import gzip
import importlib
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bhk.sam.prediction.predictor import PredictionError
from bhk.sam.prediction.texts import MissingTokenizerError

_PACKED, _PLAIN = "bpe_simple_vocab_16e6.txt.gz", "merges.txt"
_MERGES = 49152 - 256 - 2  # pairs that the tokenizer reads, after a line with the version
_WORDS = _MERGES + 512 + 2  # with those of one byte, and those for begin and end


class Vocabulary:
    """The tokenizer of the package, which is made when the first text comes.

    Attributes:
        place: the folder of the model's weights, where the vocabulary may lie; None if it is not known.
    """

    def __init__(self, package: str) -> None:
        self.place: Path | None = None
        self._package = package
        self._made: Any = None

    def __call__(self, texts: str | list[str], context_length: int) -> torch.Tensor:
        """Return the tokens of texts, int64 (texts, context_length).

        Raises:
            MissingTokenizerError: there is no vocabulary, or it is damaged.
            PredictionError: a text is too long.
        """
        tokenizer = self._tokenizer()
        for text in [texts] if isinstance(texts, str) else texts:
            count = len(tokenizer.encode(text)) + 2  # begin and end; the package would cut it off
            if count > context_length:
                raise PredictionError(f"the text takes {count} tokens, more than {context_length}; shorten it")
        tokens: torch.Tensor = tokenizer(texts, context_length=context_length)
        return tokens

    def _tokenizer(self) -> Any:
        if self._made is None:
            found = next((path for path in self._paths() if path.is_file()), None)
            if found is None:
                raise MissingTokenizerError(
                    f"a text needs a vocabulary, which the package {self._package} lacks: copy {_PLAIN} of facebook/sam3, or "
                    f"{_PACKED} of Meta's repository, to the folder of the weights{self._named()}"
                )
            try:
                self._made = tokenizer_of(self._package, found)
            except (OSError, EOFError, ValueError, LookupError, zlib.error) as error:
                raise MissingTokenizerError(
                    f"the vocabulary {found} cannot be read ({error}); copy it again"
                ) from error
        return self._made

    def _paths(self) -> Iterator[Path]:
        """Yield where a vocabulary may be: beside the weights, or where Meta's repository has it."""
        if self.place is not None:
            yield from (self.place / _PACKED, self.place / _PLAIN)
        package = Path(str(importlib.import_module(self._package).__file__)).parent
        yield from (folder / "assets" / _PACKED for folder in (package, package.parent))

    def _named(self) -> str:
        return "" if self.place is None else f", {self.place}"


def tokenizer_of(package: str, path: Path) -> Any:
    """Return the package's tokenizer of the vocabulary in a file, packed or plain."""
    module: Any = importlib.import_module(f"{package}.model.tokenizer_ve")
    if path.name == _PACKED:
        return _counted(module.SimpleTokenizer(bpe_path=str(path)))
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) <= _MERGES:
        raise ValueError(f"{len(lines)} lines, expected {_MERGES + 1}")
    with tempfile.TemporaryDirectory(prefix="bhk-") as folder:
        packed = write_vocabulary(Path(folder), lines)
        return _counted(module.SimpleTokenizer(bpe_path=str(packed)))


def _counted(tokenizer: Any) -> Any:
    """Return a tokenizer with all words; with fewer, the numbers of the others would be wrong."""
    if tokenizer.vocab_size != _WORDS:
        raise ValueError(f"it has {tokenizer.vocab_size} words, expected {_WORDS}")
    return tokenizer


def write_vocabulary(folder: Path, lines: list[str]) -> Path:
    """Write a vocabulary as the package reads it."""
    path = folder / _PACKED
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        file.write("\n".join(lines))
    return path


def meaningless() -> list[str]:
    """Return a vocabulary of the right size that joins nothing, for a model that gets its own later."""
    return ["#", *(f"{number} {number}" for number in range(_MERGES))]
