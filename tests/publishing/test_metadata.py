from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bhk.hub.card_metadata import CardMetadataError, metadata_of
from bhk.publishing.card import make_card
from bhk.publishing.content import Card, CardContent, card_content
from bhk.publishing.licenses import License
from bhk.publishing.metadata import completed, merged
from publishing.made_up import bhk_file, entry, source


@pytest.fixture
def content(tmp_path: Path) -> CardContent:
    path = bhk_file(tmp_path / "a.bhk", model=entry("sam_vit_b"), metadata=source("sam_vit_b_01ec64.pth"))
    return card_content({"model.bhk": path}, "me/sam")


def _merged(content: CardContent, text: str) -> dict[str, Any]:
    block = merged(f"---\n{text}\n---\n", content, line_end="\n")
    found: dict[str, Any] = yaml.safe_load(block.removesuffix("---\n").removeprefix("---\n"))
    return found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not YAML.*in line 2"),
        ("a: 1\n b: 2", "not YAML.*in line 3"),
        ("a: !!python/object:os.system {}", "not YAML"),
        ("- a\n- b", "not a YAML mapping"),
        ("just words", "not a YAML mapping"),
        ("1: a", "not a YAML mapping"),
        ("license: mit\nlicense: gpl", "'license' twice"),
        ("tags: {a: 1}", "tags that are not a list"),
        ("tags: [1]", "tags that are not a list"),
        ("a: \x07", "not YAML"),
        ("date: 2024-99-99", "not YAML"),
    ],
)
def test_malformed_metadata_is_refused(content: CardContent, text: str, message: str) -> None:
    with pytest.raises(CardMetadataError, match=message) as caught:
        _merged(content, text)
    assert str(caught.value).isprintable()
    assert "correct" in str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing but a comment", "{}"])
def test_empty_metadata_gets_the_entries_of_bhk(content: CardContent, text: str) -> None:
    assert _merged(content, text)["library_name"] == "bhk"


def test_complete_metadata_keeps_its_comments(content: CardContent) -> None:
    block = merged("", content, line_end="\n").replace("tags:\n", "# chosen with care\ntags:\n- first\n")
    assert merged(block, content, line_end="\n") == block


def test_values_that_are_not_strings_are_kept(content: CardContent) -> None:
    text = "date: 2024-01-02\nempty:\nwords: |\n  one\n  two\nmodel-index:\n- name: odd\n  results: 3\nñ: 日本"
    assert _merged(content, text).items() >= yaml.safe_load(text).items()


@pytest.mark.parametrize(
    "line",
    ["language: no", "version: 1.10", "code: 010", "at: 12:30:45  # UTC", "list: [no, 0x1F] # as it is", "s: 'a'"],
)
def test_unknown_entries_keep_their_text(content: CardContent, line: str) -> None:
    block = merged(f"---\n# Mine.\nlicense: mit\n{line}\ntitle: b\n---\n", content, line_end="\n")
    assert block.startswith(f"---\n# Mine.\nlicense: apache-2.0\n{line}\ntitle: b\nlibrary_name: bhk\n")
    assert merged(block, content, line_end="\n") == block


def test_metadata_in_one_line_or_with_aliases_is_rewritten(content: CardContent) -> None:
    assert _merged(content, "{a: 1, language: en}").items() >= {"a": 1, "language": "en", "library_name": "bhk"}.items()
    assert _merged(content, "tags: &tags\n- one\nmore: *tags")["more"] == ["one"]


def test_license_name_and_link_go_with_their_license(content: CardContent) -> None:
    stale = "license: other\nlicense_name: mine\nlicense_link: https://example.org"
    found = _merged(content, stale)
    assert found["license"] == "apache-2.0"
    assert not {"license_name", "license_link"} & set(found)
    other = card_content({"model.bhk": content.files[0].inspection.path}, "me/sam", Card(license="other"))
    assert _merged(other, stale).items() >= yaml.safe_load(stale).items()


def test_a_hand_written_pipeline_tag_and_base_model_are_kept(tmp_path: Path) -> None:
    content = card_content({"model.bhk": bhk_file(tmp_path / "a.bhk")}, "me/any")
    found = _merged(content, "pipeline_tag: feature-extraction\nbase_model: some/model\ntags: one")
    assert found["pipeline_tag"] == "feature-extraction"
    assert (found["base_model"], found["base_model_relation"]) == ("some/model", "quantized")
    assert found["tags"] == ["one", "bhk", "compression", "quantization"]


@pytest.mark.parametrize("card", ["", "# Title\n", "---\n# no end\n", "text\n---\na: 1\n---\n"])
def test_a_card_may_have_none(card: str) -> None:
    assert metadata_of(card) == ("", card)


def test_an_existing_card_fills_gaps(tmp_path: Path) -> None:
    silent = card_content({"model.bhk": bhk_file(tmp_path / "a.bhk")}, "me/any")
    assert len(silent.hints) == 2
    card = "---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\nbase_model: [a/b, c/d]\n---\nwords\n"
    known = completed(silent, card)
    assert (known.license, known.base_models) == (License("other", "mine", "LICENSE"), ("a/b", "c/d"))
    assert known.hints == ()
    text = make_card(silent, existing=card)
    assert "[`mine`](LICENSE), also applies" in text
    assert "[c/d](https://huggingface.co/c/d)" in text
    assert completed(silent, "---\nlicense: [mit]\nbase_model: [1, {}, a b]\n---\n") == silent


def test_the_publisher_takes_precedence_over_an_existing_card(content: CardContent) -> None:
    assert completed(content, "---\nlicense: mit\nbase_model: a/b\n---\n") == content
