"""The metadata of a card: a block of YAML before the text."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import yaml

from bhk.base.errors import shown
from bhk.hub.card_metadata import BYTE_ORDER_MARK, CARD_ADVICE, CardMetadataError, metadata_of, parsed, text_of
from bhk.publishing.content import CardContent, repository_of, same_repository
from bhk.publishing.licenses import OTHER, License, license_in
from bhk.publishing.model_index import MODEL_INDEX, model_index


def completed(content: CardContent, card: str) -> CardContent:
    """Return the content, with the license and base models of an existing card's metadata where the content has none.

    Raises:
        CardMetadataError: the metadata is not a YAML mapping with unique keys.
    """
    stated = parsed(metadata_of(card)[0])
    if content.license is None:
        content = replace(content, license=license_in(stated))
    if not content.base_models:
        bases = _stated_bases(stated)
        content = replace(
            content, base_models=tuple(base for base in bases if not same_repository(base, content.repository))
        )
    return content


def _stated_bases(metadata: dict[str, Any]) -> tuple[str, ...]:
    bases = metadata.get("base_model")
    found = (
        repository_of(base if isinstance(base, str) else "") for base in (bases if isinstance(bases, list) else [bases])
    )
    return tuple(base for base in found if base is not None)


def merged(block: str, content: CardContent, *, line_end: str) -> str:
    """Return a block of metadata, with the entries of bhk added or updated.

    Keys keep their order, and new ones follow. Keys that bhk does not know, tags, a gate and an existing pipeline tag are
    kept. A block that already says all this is returned unchanged, with its comments.

    Raises:
        CardMetadataError: the block is not a YAML mapping with unique keys.
    """
    before = parsed(block)
    after = _updated(before, content)
    if block.strip(BYTE_ORDER_MARK) and after == before:
        return block
    mark = BYTE_ORDER_MARK if block.startswith(BYTE_ORDER_MARK) else ""
    return f"{mark}---{line_end}{_written(before, after, block, line_end)}---{line_end}"


def _written(before: dict[str, Any], after: dict[str, Any], block: str, line_end: str) -> str:
    """Return `after` as YAML. Entries that did not change keep the text they have in the block, if its form allows.

    Reading and writing them again would change "no" (Norwegian), 1.10 or 010.
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
    except (yaml.YAMLError, ValueError):  # an alias of an entry that is gone
        pass
    return _dumped(after, line_end)


def _lines_of_keys(block: str) -> dict[str | None, str]:
    """Return the lines of each key of a block, and the lines before the first key as None."""
    lines = text_of(block).splitlines(keepends=True)
    node = yaml.compose("".join(lines), Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return {}
    starts = [key.start_mark.line for key, _ in node.value]
    ends = [*starts[1:], len(lines)]
    found = {key.value: lines[start:end] for (key, _), start, end in zip(node.value, starts, ends, strict=True)}
    return {None: "".join(lines[: starts[0]]), **{key: "".join(part) for key, part in found.items()}}


def _dumped(metadata: dict[str, Any], line_end: str) -> str:
    def dump(allow_unicode: bool) -> str:
        return str(yaml.safe_dump(metadata, sort_keys=False, allow_unicode=allow_unicode, line_break=line_end))

    text = dump(allow_unicode=True)
    return text if re.sub(r"[\r\n]", "", text).isprintable() else dump(allow_unicode=False)


def _updated(before: dict[str, Any], content: CardContent) -> dict[str, Any]:
    """Return the metadata with what the content says."""
    bases, license = list(content.base_models), content.license
    segments = all(file.segments for file in content.files)
    ours = {
        "license": license.id if license else None,
        "license_name": license.name if license else None,
        "license_link": license.link if license else None,
        "library_name": "bhk",
        "pipeline_tag": before.get("pipeline_tag") or ("mask-generation" if segments else None),
        "base_model": bases[0] if len(bases) == 1 else bases,
        "base_model_relation": "quantized" if bases or before.get("base_model") else None,
        "tags": [*_tags(before), *(tag for tag in _own_tags(content) if tag not in _tags(before))],
        MODEL_INDEX: model_index(content, before.get(MODEL_INDEX)),
    }
    stale = ["license_name", "license_link"] if license and _is_another(license, before) else []
    stale += [] if ours[MODEL_INDEX] else [MODEL_INDEX]
    gate = {key: value for key, value in content.gate.items() if key not in before}
    kept = {key: value for key, value in (before | gate).items() if key not in stale}
    return kept | {key: value for key, value in ours.items() if value}


def _is_another(license: License, before: dict[str, Any]) -> bool:
    """Return whether the license name and link on a card belong to another license than `license`."""
    return license.id != OTHER or license.name is not None or before.get("license") != OTHER


def _own_tags(content: CardContent) -> list[str]:
    families = dict.fromkeys(file.family for file in content.files if file.family)
    generation = ["sam2" if "sam2" in family else "segment-anything" for family in families]
    transformers = ["transformers"] if any(file.transformers_class for file in content.files) else []
    return list(dict.fromkeys(["bhk", *generation, *transformers, "compression", "quantization"]))


def _tags(metadata: dict[str, Any]) -> list[str]:
    tags = metadata.get("tags") or []
    if isinstance(tags, str):
        return [tags]
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise CardMetadataError(
            f"the card's metadata has tags that are not a list of strings ({shown(tags)}); {CARD_ADVICE}"
        )
    return tags
