"""The metadata of a card: a block of YAML before its text."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import yaml

from bhk.base.errors import BhkError, shown
from bhk.publishing.facts import CardFacts, repository_of, same_repository
from bhk.publishing.licences import LICENCES, OTHER, Licence

_BYTE_ORDER_MARK = "\ufeff"
_LINK = re.compile(r"[\w.:/?=&%#+~-]+", re.ASCII)  # what needs no escape in Markdown
_ADVICE = "mend README.md on the Hub first"


class CardMetadataError(BhkError):
    """The metadata of the card that a repository has cannot be read."""


def metadata_of(card: str) -> tuple[str, str]:
    """Return a card's metadata, as they stand there and with the lines of dashes around them, and its text.

    The first is empty (but for a byte order mark) when there are none.
    """
    from huggingface_hub.repocard import REGEX_YAML_BLOCK  # slow to import, and only needed here

    mark = _BYTE_ORDER_MARK if card.startswith(_BYTE_ORDER_MARK) else ""
    found = REGEX_YAML_BLOCK.search(card[len(mark) :])
    end = len(mark) + (found.end() if found else 0)
    return card[:end], card[end:]


def completed(facts: CardFacts, card: str) -> CardFacts:
    """Return facts with the licence and the base models that a card's metadata state, where the facts know none.

    Raises:
        CardMetadataError: they are no YAML mapping with different keys.
    """
    stated = _parsed(metadata_of(card)[0])
    if facts.licence is None:
        facts = replace(facts, licence=_stated_licence(stated))
    if not facts.base_models:
        bases = _stated_bases(stated)
        facts = replace(facts, base_models=tuple(base for base in bases if not same_repository(base, facts.repository)))
    return facts


def _stated_licence(metadata: dict[str, Any]) -> Licence | None:
    found, name, link = (_text(metadata.get(key)) for key in ("license", "license_name", "license_link"))
    if found is None or found not in LICENCES:
        return None
    return Licence(found, name, link if link and _LINK.fullmatch(link) else None)


def _stated_bases(metadata: dict[str, Any]) -> tuple[str, ...]:
    bases = metadata.get("base_model")
    found = (repository_of(_text(base) or "") for base in (bases if isinstance(bases, list) else [bases]))
    return tuple(base for base in found if base is not None)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def merged(block: str, facts: CardFacts, *, line_end: str) -> str:
    """Return a block of metadata with those of bhk in it.

    Keys keep their order and new ones follow; keys that bhk does not know are kept, and so are tags and a pipeline tag.
    A block that says all this already is returned as it is, with its comments.

    Raises:
        CardMetadataError: the block is no YAML mapping with different keys.
    """
    before = _parsed(block)
    after = _updated(before, facts)
    if block.strip(_BYTE_ORDER_MARK) and after == before:
        return block
    mark = _BYTE_ORDER_MARK if block.startswith(_BYTE_ORDER_MARK) else ""
    return f"{mark}---{line_end}{_written(before, after, block, line_end)}---{line_end}"


def _written(before: dict[str, Any], after: dict[str, Any], block: str, line_end: str) -> str:
    """Return `after` as YAML; what is as in `before` in the very words of the block, where its form allows.

    To read "no" (Norwegian), 1.10 or 010 and write them again changes them.
    """
    found = _lines_of_keys(block)
    parts = [
        found[key] if key in found and key in before and before[key] == value else _dumped({key: value}, line_end)
        for key, value in after.items()
    ]
    text = found.get(None, "") + "".join(parts)
    try:
        if yaml.safe_load(text) == after:
            return text
    except (yaml.YAMLError, ValueError):  # an alias of what is gone
        pass
    return _dumped(after, line_end)


def _lines_of_keys(block: str) -> dict[str | None, str]:
    """Return the lines of each key of a block of metadata, and of what stands before the first (None)."""
    lines = _inner(block).splitlines(keepends=True)
    node = yaml.compose("".join(lines), Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return {}
    starts = [key.start_mark.line for key, _ in node.value]
    ends = [*starts[1:], len(lines)]
    found = {key.value: lines[start:end] for (key, _), start, end in zip(node.value, starts, ends, strict=True)}
    return {None: "".join(lines[: starts[0]]), **{key: "".join(part) for key, part in found.items()}}


def _dumped(metadata: dict[str, Any], line_end: str) -> str:
    text: str = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, line_break=line_end)
    return text


def _inner(block: str) -> str:
    """Return a block of metadata without the lines of dashes, its line ends as they are."""
    return "".join(block.strip(_BYTE_ORDER_MARK).lstrip().splitlines(keepends=True)[1:-1])


def _updated(before: dict[str, Any], facts: CardFacts) -> dict[str, Any]:
    """Return metadata with what the facts say."""
    bases, licence = list(facts.base_models), facts.licence
    segments = all(file.segments for file in facts.files)
    ours = {
        "license": licence.id if licence else None,
        "license_name": licence.name if licence else None,
        "license_link": licence.link if licence else None,
        "library_name": "bhk",
        "pipeline_tag": before.get("pipeline_tag") or ("mask-generation" if segments else None),
        "base_model": bases[0] if len(bases) == 1 else bases,
        "base_model_relation": "quantized" if bases or before.get("base_model") else None,
        "tags": [*_tags(before), *(tag for tag in _own_tags(facts) if tag not in _tags(before))],
    }
    stale = ("license_name", "license_link") if licence and _is_another(licence, before) else ()
    kept = {key: value for key, value in before.items() if key not in stale}
    return kept | {key: value for key, value in ours.items() if value}


def _is_another(licence: Licence, before: dict[str, Any]) -> bool:
    """Tell whether the name and the link that a card gives its licence are not those of `licence`."""
    return licence.id != OTHER or licence.name is not None or before.get("license") != OTHER


def _own_tags(facts: CardFacts) -> list[str]:
    families = dict.fromkeys(file.family for file in facts.files if file.family)
    generation = ["sam2" if "sam2" in family else "segment-anything" for family in families]
    transformers = ["transformers"] if any(file.transformers_class for file in facts.files) else []
    return list(dict.fromkeys(["bhk", *generation, *transformers, "compression", "quantization"]))


def _tags(metadata: dict[str, Any]) -> list[str]:
    tags = metadata.get("tags") or []
    if isinstance(tags, str):
        return [tags]
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise CardMetadataError(f"the card's metadata have tags that are no list of texts ({shown(tags)}); {_ADVICE}")
    return tags


def _parsed(block: str) -> dict[str, Any]:
    """Return the metadata of a block."""
    text = _inner(block)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CardMetadataError(f"the card's metadata are no YAML ({_reason(error, text)}); {_ADVICE}") from error
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CardMetadataError(f"the card's metadata are no YAML mapping of names to values; {_ADVICE}")
    if len(node.value) > len(value):
        names = [key.value for key, _ in node.value]
        twice = next(name for name in names if names.count(name) > 1)
        raise CardMetadataError(f"the card's metadata have the key {shown(twice)!r} twice; {_ADVICE}")
    return value


def _reason(error: Exception, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    if mark is None:
        return shown(problem)
    line = (
        min(mark.line, len(text.splitlines()) - 1) + 2
    )  # at the end of the text, that before; the line of dashes comes first
    return f"{shown(problem)}, in line {line}"
