"""The bad files of format_spec/vectors/: each is a good file with one small change that breaks one rule."""

from __future__ import annotations

from collections.abc import Iterator

from tools.format_spec import bad_data, bad_text, bad_values


def bad() -> Iterator[tuple[str, bytes]]:
    """Yield (name, file) of every bad file; the name starts with the rule."""
    for module in (bad_text, bad_values, bad_data):
        yield from module.files()
