from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bhk.base.hashes import sha256
from bhk.base.project import installation
from bhk.container.header import ModelEntry
from bhk.hub.card_metadata import CardMetadataError, metadata_of
from bhk.publishing.card import BEGIN, END, MarkersError, make_card
from bhk.publishing.content import Card, CardContent, card_content
from bhk.publishing.evaluations import lost_results
from publishing.made_up import accuracy, bhk_file, companions, entry, fidelity, source, written

if TYPE_CHECKING:
    from hub.fake_hub import FakeHub

_HAND = "---\nlanguage: en  # by hand\nlicense: mit\ntags: [medical, bhk]\nx: [1, {y: 2}]\n---\n\n# Mine\n\nMy own words. \n"


def _sam(folder: Path) -> CardContent:
    path = bhk_file(folder / "sam.bhk", model=entry("sam_vit_b"), metadata=source("sam_vit_b_01ec64.pth"))
    return card_content({"model.bhk": path}, "me/sam-b")


def _evaluated(folder: Path) -> CardContent:
    path = bhk_file(folder / "sam.bhk", model=entry("sam_vit_b"), metadata=source("sam_vit_b_01ec64.pth"))
    documents = [
        written(folder / "fidelity.json", fidelity(sha256([path]))),
        written(folder / "accuracy.json", accuracy(sha256([path]))),
    ]
    return card_content({"model.bhk": path}, "me/sam-b", Card(evaluation=documents))


def _sam2(folder: Path) -> CardContent:
    path = bhk_file(folder / "sam2.bhk", model=entry("sam2_hiera_tiny"), metadata=source("sam2_hiera_tiny.pt"))
    return card_content({"model.bhk": path}, "me/sam2")


def _edge_sam(folder: Path) -> CardContent:
    path = bhk_file(folder / "edge.bhk", model=entry("edge_sam"), metadata=source("chongzhou/EdgeSAM"))
    return card_content({"model.bhk": path}, "me/edge-sam")


def _transformers(folder: Path) -> CardContent:
    model = ModelEntry("transformers_sam", "transformers_sam", {"width": 768})
    metadata = source("facebook/sam-vit-base") | companions({"model_type": "sam", "architectures": ["SamModel"]})
    path = bhk_file(folder / "hf.bhk", model=model, metadata=metadata, dtype=torch.float16)
    return card_content({"model.bhk": path}, "me/sam-hf")


def _text_encoder(folder: Path) -> CardContent:
    metadata = source("some/minilm") | companions({"model_type": "bert", "architectures": ["BertModel"]})
    return card_content({"model.bhk": bhk_file(folder / "bert.bhk", metadata=metadata)}, "me/minilm")


def _unsaid(folder: Path) -> CardContent:
    path = bhk_file(folder / "mine.bhk", model=entry("sam_vit_b"), metadata=source("mine.pth"))
    return card_content({"model.bhk": path}, "me/mine")


def _unknown(folder: Path) -> CardContent:
    return card_content({"model.bhk": bhk_file(folder / "any.bhk")}, "me/any")


def _several(folder: Path) -> CardContent:
    metadata = source("sam_vit_b_01ec64.pth")
    files = {
        name: bhk_file(folder / name, model=entry("sam_vit_b"), metadata=metadata) for name in ("a.bhk", "b c.bhk")
    }
    return card_content(
        {**files, "other.bhk": bhk_file(folder / "other.bhk")}, "me/several", Card(license="apache-2.0")
    )


_KINDS = (_sam, _evaluated, _sam2, _edge_sam, _transformers, _text_encoder, _unknown, _several)


@pytest.fixture
def content(tmp_path: Path) -> CardContent:
    return _evaluated(tmp_path)


def _metadata(card: str) -> dict[str, object]:
    block, _ = metadata_of(card)
    found: dict[str, object] = yaml.safe_load(block.strip("\ufeff").strip().strip("-"))
    return found


@pytest.mark.parametrize("kind", _KINDS)
def test_the_hub_accepts_every_card(tmp_path: Path, hub: FakeHub, kind: Callable[[Path], CardContent]) -> None:
    from huggingface_hub import ModelCard

    text = make_card(kind(tmp_path))
    card = ModelCard(text)
    card.validate()
    assert str(card) == text  # the library reads and writes it unchanged
    assert make_card(kind(tmp_path), existing=text) == text


def test_metadata_of_a_segment_anything_model(tmp_path: Path) -> None:
    assert _metadata(make_card(_sam(tmp_path))) == {
        "license": "apache-2.0",
        "library_name": "bhk",
        "pipeline_tag": "mask-generation",
        "base_model": "facebook/sam-vit-base",
        "base_model_relation": "quantized",
        "tags": ["bhk", "segment-anything", "compression", "quantization"],
    }


def test_metadata_of_others(tmp_path: Path) -> None:
    edge = _metadata(make_card(_edge_sam(tmp_path)))
    assert (edge["license"], edge["license_name"]) == ("other", "s-lab-license-1.0")
    assert str(edge["license_link"]).endswith("LICENSE")
    assert "sam2" in str(_metadata(make_card(_sam2(tmp_path)))["tags"])
    text = _metadata(make_card(_text_encoder(tmp_path)))
    assert text["base_model"] == "some/minilm"
    assert not {"license", "pipeline_tag"} & set(text)
    assert set(_metadata(make_card(_unknown(tmp_path)))) == {"library_name", "tags"}
    assert "pipeline_tag" not in _metadata(make_card(_several(tmp_path)))


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        (
            _sam,
            [
                'bhk.load("me/sam-b")',
                f"After {installation()} and `pip install segment-anything torchvision`:",
                "bhk export sam-b.bhk -o sam-b-restored.pth",
                "--against sam_vit_b_01ec64.pth",
            ],
        ),
        (_transformers, ['bhk.load("me/sam-hf")', "import bhk.transformers", 'SamModel.from_pretrained("me/sam-hf")']),
        (_transformers, ["already in float16", "mkdir sam-hf-restored\nbhk export sam-hf.bhk -o sam-hf-restored"]),
        (
            _transformers,
            ["[facebook/sam-vit-base](https://huggingface.co/facebook/sam-vit-base) in the folder `original`"],
        ),
        (_transformers, ["bhk eval sam-hf.bhk --against original --images"]),
        (_text_encoder, ['AutoModel.from_pretrained("me/minilm")', "bhk verify minilm.bhk --against some/minilm"]),
        (
            _text_encoder,
            [f"After {installation('transformers')}:", "[some/minilm](https://huggingface.co/some/minilm), "],
        ),
        (_unsaid, ["a compressed copy of the weights of `mine.pth`, made by"]),
        (
            _unknown,
            [
                "a compressed copy of the original weights",
                'bhk.load_into(model, "hf://me/any")',
                "The license is not stated",
            ],
        ),
        (_several, ['"hf://me/several/a.bhk"', "`hf://me/several/b c.bhk`", "bhk pull me/several 'b c.bhk'"]),
    ],
)
def test_a_visitor_is_told_how_to_load_it(
    tmp_path: Path, kind: Callable[[Path], CardContent], lines: list[str]
) -> None:
    card = make_card(kind(tmp_path))
    assert all(line in card for line in lines), card


def test_results_are_shown_if_they_were_measured(tmp_path: Path) -> None:
    card = make_card(_evaluated(tmp_path))
    assert "| points | 1,234 | 0.9876 | 0.9776 … 0.9976 | 0.4938 | 98.8 % | 0.9876 |" in card
    assert "| all, original in bfloat16 | 1,234 | 0.9987 |" in card
    assert "got the same prompts, 32 points in each of 1 picture, and" in card
    assert "Cosine similarity of the image embeddings: 0.99910 (95 % interval –), lowest 0.99000." in card
    assert "| `model.bhk` | SAM-B | 12.5 kB, float32 |" in card
    assert "converted from `sam_vit_b_01ec64.pth`: 12,544 bytes" in card
    assert "- made with `bhk 9.9`" in card
    assert ", which is the published file of SAM-B\n" in card
    assert "| box | original | 4,567 | 0.7600 | 0.7500 … 0.7700 | 0.3800 |" in card
    assert "Masks of 36,335 objects in 5,000 pictures of `instances_val2017.json` (coco)" in card
    assert "prompted by box: mIoU 1.32 % (1.00 % … 2.00 %)" in card
    assert "ot measured" not in card
    assert "private" not in card  # no path on the machine that measured


def test_nothing_is_claimed_that_was_not_measured(tmp_path: Path) -> None:
    card = make_card(_sam(tmp_path))
    assert "Not measured: the publisher added no evaluation." in card
    assert "was not measured here" in card
    assert "IoU" not in card


def test_each_of_several_files_has_its_results(tmp_path: Path) -> None:
    files = {
        name: bhk_file(tmp_path / name, model=entry(kind))
        for name, kind in (("a.bhk", "sam_vit_b"), ("b.bhk", "sam_vit_l"))
    }
    document = written(tmp_path / "a.json", fidelity(sha256([files["b.bhk"]])))
    card = make_card(card_content(files, "me/two", Card(evaluation=[document])))
    first, second = card.partition("## What is stored")[0].split("### `b.bhk`")
    assert "### `a.bhk`\n\nNot measured" in first
    assert "**Fidelity.**" in second
    assert make_card(card_content(files, "me/two")).count("Not measured") == 1


def test_an_original_that_is_not_the_source_is_named(tmp_path: Path) -> None:
    path = bhk_file(tmp_path / "a.bhk", model=entry("sam_vit_b"), metadata=source("sam_vit_b_01ec64.pth"))
    document = written(tmp_path / "a.json", fidelity(sha256([path]), control=False, original="cd" * 32))
    card = make_card(card_content({"model.bhk": path}, "me/sam", Card(evaluation=[document])))
    assert (
        f"This model and `sam.pth` (SHA-256 `{'cd' * 32}`), which is not the checkpoint that it was converted from, got"
        in card
    )
    assert "bfloat16" not in card


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_results_are_kept_until_the_file_changes(content: CardContent, end: str) -> None:
    card = make_card(content).replace("\n", end)
    (file,) = content.files
    unmeasured = dataclasses.replace(content, files=(dataclasses.replace(file, evaluations=()),))
    assert make_card(unmeasured, existing=card) == card
    assert lost_results(unmeasured, card, card) is None
    assert "put {{results}} into it" in str(lost_results(unmeasured, card, "A card without them."))
    another = dataclasses.replace(content, files=(dataclasses.replace(file, evaluations=(), sha256="ab" * 32),))
    changed = make_card(another, existing=card)
    assert "**Fidelity.**" not in changed
    assert "Not measured" in changed
    assert "give an evaluation of this one" in str(lost_results(another, card, changed))
    assert lost_results(another, changed, changed) is None
    fewer = dataclasses.replace(content, files=(dataclasses.replace(file, evaluations=file.evaluations[:1]),))
    assert "**Accuracy.**" not in make_card(fewer, existing=card)


def test_hand_written_parts_are_kept(content: CardContent) -> None:
    card = make_card(content, existing=_HAND)
    block, text = metadata_of(card)
    assert list(yaml.safe_load(block.strip().strip("-"))) == [
        "language",
        "license",
        "tags",
        "x",
        "library_name",
        "pipeline_tag",
        "base_model",
        "base_model_relation",
        "model-index",
    ]
    found = _metadata(card)
    assert found["license"] == "apache-2.0"
    assert found["tags"] == ["medical", "bhk", "segment-anything", "compression", "quantization"]
    assert found["x"] == [1, {"y": 2}]
    assert text.startswith(f"\n# Mine\n\nMy own words. \n\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\n")
    edited = card.replace(BEGIN, f"before\n\n{BEGIN}").replace(END, f"{END}\n\nafter, without an end of line")
    assert make_card(content, existing=edited) == edited


def test_only_the_section_changes_with_the_content(content: CardContent) -> None:
    card = make_card(content, existing=_HAND) + "after\n"
    changed = make_card(dataclasses.replace(content, repository="you/sam-b"), existing=card)
    assert changed != card
    assert changed.partition(BEGIN)[0] == card.partition(BEGIN)[0]
    assert changed.partition(END)[2] == card.partition(END)[2] == "\nafter\n"


@pytest.mark.parametrize("existing", [None, "", "\n \n", "\ufeff"])
def test_an_empty_card_counts_as_none(content: CardContent, existing: str | None) -> None:
    assert make_card(content, existing=existing) == make_card(content)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_card_with_only_metadata_gets_a_title(content: CardContent, end: str) -> None:
    existing = f"---{end}license: mit{end}---{end}"  # as the Hub creates it for a new repository
    _, text = metadata_of(make_card(content, existing=existing))
    assert text.startswith(f"{end}# sam-b{end}{end}{BEGIN}{end}")


def test_windows_line_ends_are_kept(content: CardContent) -> None:
    existing = _HAND.replace("\n", "\r\n")
    card = make_card(content, existing=existing)
    assert card.count("\r\n") == card.count("\n")
    assert card.replace("\r\n", "\n") == make_card(content, existing=_HAND)
    assert make_card(content, existing=card) == card


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (BEGIN, "begin in line 8"),
        (END, "end in line 8"),
        (f"{END}\n{BEGIN}", "end in line 8, begin in line 9"),
        (f"{BEGIN}\n{END}\n\n{BEGIN}\n{END}", "begin in line 8, end in line 9, begin in line 11, end in line 12"),
        (f"{BEGIN}\n{BEGIN}\n{END}", "begin in line 8, begin in line 9, end in line 10"),
        (f"```\n  <!-- bhk:begin -->\n```\n{BEGIN}\n{END}", "begin in line 9"),
    ],
)
def test_unpaired_marks_are_refused(content: CardContent, text: str, places: str) -> None:
    existing = f"---\nlicense: mit\n---\n\n# Mine\n\nwords\n{text}\n"
    for card in (existing, existing.replace("\n", "\r\n")):
        with pytest.raises(MarkersError, match=places):
            make_card(content, existing=card)


def test_a_card_without_metadata_gets_some(content: CardContent) -> None:
    existing = "# Mine\n\n---\n\nno: metadata\n---\n"
    card = make_card(content, existing=existing)
    assert metadata_of(card)[1].startswith(existing)
    assert _metadata(card)["library_name"] == "bhk"
    assert make_card(content, existing=card) == card


_NAMES = st.sampled_from(["license", "tags", "base_model", "pipeline_tag", "license_name", "language", "é", "a b", "1"])
_VALUES = st.one_of(
    st.text(max_size=9), st.integers(), st.booleans(), st.none(), st.lists(st.text(max_size=5), max_size=3)
)
_LINES = st.one_of(
    st.sampled_from(["", "# Title", "text", "---", "```", "<!-- bhk -->", "<!-- begin -->", "\tcode", "| a | b |", "​"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
)


@st.composite
def _cards(draw: st.DrawFn) -> str:
    lines = draw(st.lists(_LINES, max_size=8))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(lines)))
        lines[at:at] = ["<!-- bhk:begin -->", *draw(st.lists(_LINES, max_size=3)), "<!-- bhk:end -->"]
    text = "\n".join(lines) + "\n" * draw(st.integers(0, 3))
    if draw(st.booleans()):
        metadata = draw(st.dictionaries(_NAMES, _VALUES, max_size=4))
        text = f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---\n{text}"
    mark = draw(st.sampled_from(["", "\ufeff"]))
    return mark + (text.replace("\n", "\r\n") if draw(st.booleans()) else text)


_CONTENTS: list[CardContent] = []


@pytest.fixture(scope="module", autouse=True)
def _made(tmp_path_factory: pytest.TempPathFactory) -> None:
    _CONTENTS[:] = [kind(tmp_path_factory.mktemp("content")) for kind in (_evaluated, _edge_sam, _unknown)]


@settings(max_examples=80, deadline=None)
@given(_cards(), st.integers(0, 2))
@example("\ufeff# Title\r\nmixed\nends\r\n", 0)
@example("---\n---\n", 1)
@example("---\n\n---", 1)
def test_making_a_card_from_itself_changes_nothing(existing: str, which: int) -> None:
    """And hand-written text is kept to the byte."""
    content = _CONTENTS[which]
    try:
        card = make_card(content, existing=existing)
    except CardMetadataError:  # tags of another type
        return
    except MarkersError:  # the first lines of the text, with a mark, were taken for metadata
        assert "bhk:begin" in metadata_of(existing)[0]
        return
    assert make_card(content, existing=card) == card
    if not existing.strip("\ufeff \t\r\n"):
        return
    _, before = metadata_of(existing)
    _, after = metadata_of(card)
    head, found, rest = before.partition("<!-- bhk:begin -->")
    assert after.startswith(head)
    if found:
        assert after.endswith(rest.partition("<!-- bhk:end -->")[2])


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@example("`", "``")
@example(f"\n{END}\n", f"a\n{BEGIN}\n")
@example("a|b", "<script>alert(1)</script>")
def test_texts_from_files_are_escaped(name: str, generator: str) -> None:
    plain = _CONTENTS[0]
    file = plain.files[0]
    metadata = {**file.metadata, "source.name": name, "source.sha256": name, "source.bytes": name}
    inspection = dataclasses.replace(file.inspection, generator=generator, metadata=metadata)
    content = dataclasses.replace(plain, files=(dataclasses.replace(file, inspection=inspection, evaluations=()),))
    card = make_card(content)
    assert make_card(content, existing=card) == card
    tokens = MarkdownIt("commonmark").enable("table").parse(metadata_of(card)[1])
    parts = [part for token in tokens for part in (token, *(token.children or ()))]
    assert [part.content.strip() for part in parts if part.type.startswith("html")] == [BEGIN, END]
    assert sum(part.type == "heading_open" for part in parts) == 6
