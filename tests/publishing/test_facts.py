from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bhk.base.hashes import sha256
from bhk.container.errors import FormatError
from bhk.publishing.facts import CardFacts, PublicationError, card_facts
from bhk.publishing.licences import Licence, UnknownLicenceError
from bhk.publishing.results import EvaluationDocumentError
from publishing.made_up import accuracy, bhk_file, companions, entry, fidelity, source, written

APACHE = Licence("apache-2.0")


def _facts(folder: Path, options: dict[str, Any] | None = None, **file: Any) -> CardFacts:
    return card_facts({"model.bhk": bhk_file(folder / "a.bhk", **file)}, "me/repo", **options or {})


@pytest.mark.parametrize(
    ("variant", "name", "base", "licence"),
    [
        ("sam_vit_b", "sam_vit_b_01ec64.pth", ("facebook/sam-vit-base",), APACHE),
        ("sam_vit_b", "medsam_vit_b.pth", ("wanglab/medsam-vit-base",), APACHE),  # of the same sizes
        ("sam2.1_hiera_base_plus", "sam2.1_hiera_base_plus.pt", ("facebook/sam2.1-hiera-base-plus",), APACHE),
        ("sam_hq_vit_b", "sam_hq_vit_b.pth", (), APACHE),
        ("sam_vit_b", "facebook/sam-vit-base", ("facebook/sam-vit-base",), APACHE),
        ("sam_vit_b", "hf://facebook/sam-vit-base/model.safetensors@main", ("facebook/sam-vit-base",), APACHE),
        ("sam_vit_b", "me/fine-tuned-sam", ("me/fine-tuned-sam",), None),
        ("sam_vit_b", "fine_tuned.pth", (), None),
        ("sam_vit_b", "sam_vit_l_0b3195.pth", (), None),  # of other sizes than it was published with
        ("sam_vit_b", "no place/at\nall", (), None),
    ],
)
def test_the_name_of_the_source_tells_what_was_published(
    tmp_path: Path, variant: str, name: str, base: tuple[str, ...], licence: Licence | None
) -> None:
    facts = _facts(tmp_path, model=entry(variant), metadata=source(name))
    assert facts.base_models == base
    assert facts.licence == licence


def test_what_is_given_comes_first_then_what_the_file_states(tmp_path: Path) -> None:
    metadata = source("sam_vit_b_01ec64.pth") | {"licence": "MIT"}
    file = {"model": entry("sam_vit_b"), "metadata": metadata}
    assert _facts(tmp_path, **file).licence == Licence("mit")
    file = {"model": entry("sam_vit_b"), "metadata": source("sam_vit_b_01ec64.pth")}
    assert _facts(tmp_path, **file).licence == Licence("apache-2.0")
    given = _facts(tmp_path, {"licence": "cc-by-4.0", "base_model": "hf://some/model"}, **file)
    assert given.licence == Licence("cc-by-4.0")
    assert given.base_models == ("some/model",)
    assert given.hints == ()


def test_a_repository_is_not_its_own_base_model(tmp_path: Path) -> None:
    facts = _facts(tmp_path, {"licence": "mit"}, metadata=source("hf://Me/repo/sam.pth"))
    assert (facts.base_models, facts.hints) == ((), ())
    with pytest.raises(PublicationError, match="me/repo cannot be its own base model"):
        _facts(tmp_path, {"base_model": "me/repo"})


def test_the_licence_of_edge_sam_is_one_that_the_hub_lacks(tmp_path: Path) -> None:
    facts = _facts(tmp_path, model=entry("edge_sam"), metadata=source("edge_sam_3x.pth"))
    assert facts.licence is not None
    assert (facts.licence.id, facts.licence.name) == ("other", "s-lab-license-1.0")


def test_hints_say_what_is_unknown(tmp_path: Path) -> None:
    licence, base = _facts(tmp_path, model=entry("edge_sam"), metadata=source("mine.pth")).hints
    assert "no licence" in licence
    assert "EdgeSAM, published under S-Lab-1.0" in licence
    assert licence.endswith("--licence (licence=)")
    assert "no base model" in base
    assert base.endswith("--base-model (base_model=)")
    assert "sizes" not in _facts(tmp_path, model=entry("transformers_sam")).hints[0]


def test_a_file_that_states_an_unknown_licence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownLicenceError, match="did you mean apache"):
        _facts(tmp_path, metadata={"license": "apache 2"})


def test_several_files(tmp_path: Path) -> None:
    sam = bhk_file(tmp_path / "a.bhk", model=entry("sam_vit_b"), metadata=source("sam_vit_b_01ec64.pth"))
    edge = bhk_file(tmp_path / "b.bhk", model=entry("edge_sam"), metadata=source("edge_sam.pth"))
    other = bhk_file(tmp_path / "c.bhk")
    with pytest.raises(PublicationError, match=r"a\.bhk: apache-2\.0, b\.bhk: s-lab-license-1\.0"):
        card_facts({"a.bhk": sam, "b.bhk": edge}, "me/repo")
    facts = card_facts({"a.bhk": sam, "b.bhk": edge}, "me/repo", licence="other")
    assert facts.base_models == ("facebook/sam-vit-base", "chongzhou/EdgeSAM")
    mixed = card_facts({"a.bhk": sam, "c.bhk": other}, "me/repo")
    assert (mixed.licence, mixed.base_models) == (None, ())
    with pytest.raises(PublicationError, match="there are no"):
        card_facts({}, "me/repo")


@pytest.mark.parametrize("base", ["bert", "a/b/../c d", "https://example.com/a/b", ""])
def test_a_base_model_is_a_repository(tmp_path: Path, base: str) -> None:
    with pytest.raises(PublicationError, match="expected user/repo"):
        _facts(tmp_path, {"base_model": base})


def test_results_are_of_this_very_file(tmp_path: Path) -> None:
    path = bhk_file(tmp_path / "a.bhk")
    mine = written(tmp_path / "mine.json", fidelity(sha256([path])))
    more = written(tmp_path / "more.json", accuracy(sha256([path])))
    facts = card_facts({"model.bhk": path}, "me/repo", evaluation=[mine, more])
    assert [type(result).__name__ for result in facts.files[0].results] == ["FidelityResult", "AccuracyResult"]
    other = written(tmp_path / "other.json", fidelity("ab" * 32))
    with pytest.raises(
        EvaluationDocumentError, match=r"other\.json is about another file \(x\.bhk, SHA-256 abababababab…"
    ):
        card_facts({"model.bhk": path}, "me/repo", evaluation=[mine, other])


def test_results_against_other_weights_are_pointed_out(tmp_path: Path) -> None:
    path = bhk_file(tmp_path / "a.bhk", metadata=source("sam.pth"))
    options: dict[str, Any] = {"licence": "mit", "base_model": "some/model"}
    same = [written(tmp_path / "same.json", fidelity(sha256([path])))]
    assert card_facts({"model.bhk": path}, "me/repo", evaluation=same, **options).hints == ()
    other = [written(tmp_path / "other.json", fidelity(sha256([path]), original="cd" * 32))]
    (hint,) = card_facts({"model.bhk": path}, "me/repo", evaluation=other * 2, **options).hints
    assert "model.bhk compare with other weights (sam.pth, SHA-256 cdcdcdcdcdcd…) than it was made from" in hint
    unknown = bhk_file(tmp_path / "b.bhk")
    other = [written(tmp_path / "unknown.json", fidelity(sha256([unknown]), original="cd" * 32))]
    assert card_facts({"model.bhk": unknown}, "me/repo", evaluation=other, **options).hints == ()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = bhk_file(tmp_path / "a.bhk")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FormatError):
        card_facts({"model.bhk": path}, "me/repo")


@pytest.mark.parametrize(
    ("variant", "config", "name"),
    [
        ("transformers_sam", {"architectures": ["SamForAnything"]}, "SamModel"),
        ("transformers_sam2", {"architectures": ["Sam2VideoModel"]}, "Sam2Model"),
        (None, {"architectures": ["BertModel"]}, "AutoModel"),
        (None, {"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"),
        (None, {"architectures": ["Evil; import os # ForX"]}, "AutoModel"),
        (None, {"architectures": 3}, "AutoModel"),
        (None, {"architectures": [[1]]}, "AutoModel"),
        (None, {}, "AutoModel"),
    ],
)
def test_the_class_of_transformers(tmp_path: Path, variant: str | None, config: dict[str, Any], name: str) -> None:
    model = None if variant is None else entry("sam_vit_b").__class__(variant, variant, {"width": 1})
    facts = _facts(tmp_path, model=model, metadata=companions({"model_type": "x", **config}))
    assert facts.files[0].transformers_class == name
    assert _facts(tmp_path).files[0].transformers_class is None
