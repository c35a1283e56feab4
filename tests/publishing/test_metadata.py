from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bhk.publishing.card import make_card
from bhk.publishing.facts import CardFacts, card_facts
from bhk.publishing.licences import Licence
from bhk.publishing.metadata import CardMetadataError, completed, merged, metadata_of
from publishing.made_up import bhk_file, entry, source


@pytest.fixture
def facts(tmp_path: Path) -> CardFacts:
    path = bhk_file(tmp_path / "a.bhk", model=entry("sam_vit_b"), metadata=source("sam_vit_b_01ec64.pth"))
    return card_facts({"model.bhk": path}, "me/sam")


def _merged(facts: CardFacts, text: str) -> dict[str, Any]:
    block = merged(f"---\n{text}\n---\n", facts, line_end="\n")
    found: dict[str, Any] = yaml.safe_load(block.removesuffix("---\n").removeprefix("---\n"))
    return found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "no YAML.*in line 2"),
        ("a: 1\n b: 2", "no YAML.*in line 3"),
        ("a: !!python/object:os.system {}", "no YAML"),
        ("- a\n- b", "no YAML mapping"),
        ("just words", "no YAML mapping"),
        ("1: a", "no YAML mapping"),
        ("license: mit\nlicense: gpl", "'license' twice"),
        ("tags: {a: 1}", "tags that are no list"),
        ("tags: [1]", "tags that are no list"),
        ("a: \x07", "no YAML"),
        ("date: 2024-99-99", "no YAML"),
    ],
)
def test_metadata_that_cannot_be_kept_are_refused(facts: CardFacts, text: str, message: str) -> None:
    with pytest.raises(CardMetadataError, match=message) as caught:
        _merged(facts, text)
    assert str(caught.value).isprintable()
    assert "mend" in str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing but a comment", "{}"])
def test_empty_metadata_get_those_of_bhk(facts: CardFacts, text: str) -> None:
    assert _merged(facts, text)["library_name"] == "bhk"


def test_what_says_all_already_is_kept_with_its_comments(facts: CardFacts) -> None:
    block = merged("", facts, line_end="\n").replace("tags:\n", "# chosen with care\ntags:\n- first\n")
    assert merged(block, facts, line_end="\n") == block


def test_values_that_are_no_text_are_kept(facts: CardFacts) -> None:
    text = "date: 2024-01-02\nempty:\nwords: |\n  one\n  two\nmodel-index:\n- name: odd\n  results: 3\nñ: 日本"
    assert _merged(facts, text).items() >= yaml.safe_load(text).items()


@pytest.mark.parametrize(
    "line",
    ["language: no", "version: 1.10", "code: 010", "at: 12:30:45  # UTC", "list: [no, 0x1F] # as it is", "s: 'a'"],
)
def test_what_bhk_does_not_know_keeps_its_words(facts: CardFacts, line: str) -> None:
    block = merged(f"---\n# Mine.\nlicense: mit\n{line}\ntitle: b\n---\n", facts, line_end="\n")
    assert block.startswith(f"---\n# Mine.\nlicense: apache-2.0\n{line}\ntitle: b\nlibrary_name: bhk\n")
    assert merged(block, facts, line_end="\n") == block


def test_metadata_in_one_line_or_with_aliases_are_written_anew(facts: CardFacts) -> None:
    assert _merged(facts, "{a: 1, language: en}").items() >= {"a": 1, "language": "en", "library_name": "bhk"}.items()
    assert _merged(facts, "tags: &tags\n- one\nmore: *tags")["more"] == ["one"]


def test_a_name_and_a_link_are_of_the_licence_that_they_stand_with(facts: CardFacts) -> None:
    stale = "license: other\nlicense_name: mine\nlicense_link: https://example.org"
    found = _merged(facts, stale)
    assert found["license"] == "apache-2.0"
    assert not {"license_name", "license_link"} & set(found)
    other = card_facts({"model.bhk": facts.files[0].inspection.path}, "me/sam", licence="other")
    assert _merged(other, stale).items() >= yaml.safe_load(stale).items()


def test_a_pipeline_tag_and_a_base_model_of_a_person_are_kept(tmp_path: Path) -> None:
    facts = card_facts({"model.bhk": bhk_file(tmp_path / "a.bhk")}, "me/any")
    found = _merged(facts, "pipeline_tag: feature-extraction\nbase_model: some/model\ntags: one")
    assert found["pipeline_tag"] == "feature-extraction"
    assert (found["base_model"], found["base_model_relation"]) == ("some/model", "quantized")
    assert found["tags"] == ["one", "bhk", "compression", "quantization"]


@pytest.mark.parametrize("card", ["", "# Title\n", "---\n# no end\n", "text\n---\na: 1\n---\n"])
def test_a_card_may_have_none(card: str) -> None:
    assert metadata_of(card) == ("", card)


def test_what_a_card_states_is_known(tmp_path: Path) -> None:
    silent = card_facts({"model.bhk": bhk_file(tmp_path / "a.bhk")}, "me/any")
    assert len(silent.hints) == 2
    card = "---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\nbase_model: [a/b, c/d]\n---\nwords\n"
    known = completed(silent, card)
    assert (known.licence, known.base_models) == (Licence("other", "mine", "LICENSE"), ("a/b", "c/d"))
    assert known.hints == ()
    text = make_card(silent, existing=card)
    assert "[`mine`](LICENSE), holds" in text
    assert "[c/d](https://huggingface.co/c/d)" in text
    assert completed(silent, "---\nlicense: [mit]\nbase_model: [1, {}, a b]\n---\n") == silent


def test_what_is_given_counts_more_than_what_a_card_states(facts: CardFacts) -> None:
    assert completed(facts, "---\nlicense: mit\nbase_model: a/b\n---\n") == facts
