from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bhk.base.hashes import sha256
from bhk.container.errors import FormatError
from bhk.evaluation.documents import EvaluationDocumentError, read_reports
from bhk.evaluation.several import EvaluationReport
from bhk.publishing.content import Card, CardContent, PublicationError, card_content
from bhk.publishing.licenses import License, UnknownLicenseError
from bhk.sam.variants import VARIANTS
from publishing.made_up import SHA256, accuracy, bhk_file, companions, entry, fidelity, source, written

APACHE = License("apache-2.0")


def _content(folder: Path, card: Card = Card(), **file: Any) -> CardContent:
    return card_content({"model.bhk": bhk_file(folder / "a.bhk", **file)}, "me/repo", card)


@pytest.mark.parametrize(
    ("variant", "name", "base", "license"),
    [
        ("sam_vit_b", "sam_vit_b_01ec64.pth", ("facebook/sam-vit-base",), APACHE),
        ("sam_vit_b", "medsam_vit_b.pth", (), None),  # a name alone tells nothing
        ("sam_vit_b", "wanglab/medsam-vit-base", ("wanglab/medsam-vit-base",), APACHE),
        ("mobile_sam", "mobile_sam.pt", (), APACHE),
        ("sam2.1_hiera_base_plus", "sam2.1_hiera_base_plus.pt", ("facebook/sam2.1-hiera-base-plus",), APACHE),
        ("sam_hq_vit_b", "sam_hq_vit_b.pth", (), None),
        ("sam_vit_b", "facebook/sam-vit-base", ("facebook/sam-vit-base",), APACHE),
        ("sam_vit_b", "hf://facebook/sam-vit-base/model.safetensors@main", ("facebook/sam-vit-base",), APACHE),
        ("sam_vit_b", "me/fine-tuned-sam", ("me/fine-tuned-sam",), None),
        ("sam_vit_b", "fine_tuned.pth", (), None),
        ("sam_vit_b", "no place/at\nall", (), None),
    ],
)
def test_the_hash_or_the_repository_of_the_source_tells_what_was_published(
    tmp_path: Path, variant: str, name: str, base: tuple[str, ...], license: License | None
) -> None:
    content = _content(tmp_path, model=entry(variant), metadata=source(name))
    assert content.base_models == base
    assert content.license == license


def test_other_weights_with_a_published_name_are_not_taken_for_it(tmp_path: Path) -> None:
    random = _content(tmp_path, model=entry("sam_vit_b"), metadata=source("sam_vit_b_01ec64.pth", "5e" * 32))
    assert (random.base_models, random.license) == ((), None)
    assert random.hints[2] == (
        "sam_vit_b_01ec64.pth is the name of SAM-B's file, but its SHA-256 is another: these are other weights"
    )
    renamed = source("sam_b.pth", VARIANTS["sam_vit_b"].sha256)
    assert _content(tmp_path, model=entry("sam_vit_b"), metadata=renamed).base_models == ("facebook/sam-vit-base",)
    unchecked = _content(tmp_path, model=entry("edge_sam"), metadata=source("edge_sam.pth"))
    assert unchecked.hints[2] == (
        "edge_sam.pth is the name of EdgeSAM's file; whether it is that file, bhk cannot check"
    )


def test_the_publisher_takes_precedence_over_the_source(tmp_path: Path) -> None:
    metadata = source("sam_vit_b_01ec64.pth") | {"license": "MIT"}
    file = {"model": entry("sam_vit_b"), "metadata": metadata}
    assert _content(tmp_path, **file).license == License("mit")
    file = {"model": entry("sam_vit_b"), "metadata": source("sam_vit_b_01ec64.pth")}
    assert _content(tmp_path, **file).license == License("apache-2.0")
    given = _content(tmp_path, Card(license="cc-by-4.0", base_model="hf://some/model"), **file)
    assert given.license == License("cc-by-4.0")
    assert given.base_models == ("some/model",)
    assert given.hints == ()


def test_a_repository_is_not_its_own_base_model(tmp_path: Path) -> None:
    content = _content(tmp_path, Card(license="mit"), metadata=source("hf://Me/repo/sam.pth"))
    assert (content.base_models, content.hints) == ((), ())
    with pytest.raises(PublicationError, match="me/repo cannot be its own base model"):
        _content(tmp_path, Card(base_model="me/repo"))


def test_the_license_of_edge_sam_is_not_on_the_hub(tmp_path: Path) -> None:
    content = _content(tmp_path, model=entry("edge_sam"), metadata=source("chongzhou/EdgeSAM"))
    assert content.license is not None
    assert (content.license.id, content.license.name) == ("other", "s-lab-license-1.0")


def test_hints_say_what_is_unknown(tmp_path: Path) -> None:
    license, base = _content(tmp_path, model=entry("edge_sam"), metadata=source("mine.pth")).hints
    assert "the license is not known" in license
    assert "EdgeSAM, published under S-Lab-1.0" in license
    assert license.endswith("give the license of the weights")
    assert "the base model is not known" in base
    assert base.endswith("give the repository of the original on the Hub")
    assert "sizes" not in _content(tmp_path, model=entry("transformers_sam")).hints[0]


def test_a_file_that_states_an_unknown_license_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownLicenseError, match="did you mean apache"):
        _content(tmp_path, metadata={"license": "apache 2"})


def test_several_files(tmp_path: Path) -> None:
    sam = bhk_file(tmp_path / "a.bhk", model=entry("sam_vit_b"), metadata=source("sam_vit_b_01ec64.pth"))
    edge = bhk_file(tmp_path / "b.bhk", model=entry("edge_sam"), metadata=source("chongzhou/EdgeSAM"))
    other = bhk_file(tmp_path / "c.bhk")
    with pytest.raises(PublicationError, match=r"a\.bhk: apache-2\.0, b\.bhk: s-lab-license-1\.0"):
        card_content({"a.bhk": sam, "b.bhk": edge}, "me/repo")
    content = card_content({"a.bhk": sam, "b.bhk": edge}, "me/repo", Card(license="other"))
    assert content.base_models == ("facebook/sam-vit-base", "chongzhou/EdgeSAM")
    mixed = card_content({"a.bhk": sam, "c.bhk": other}, "me/repo")
    assert (mixed.license, mixed.base_models) == (None, ())
    with pytest.raises(PublicationError, match="there are no"):
        card_content({}, "me/repo")


@pytest.mark.parametrize("base", ["bert", "a/b/../c d", "https://example.com/a/b", ""])
def test_a_base_model_is_a_repository(tmp_path: Path, base: str) -> None:
    with pytest.raises(PublicationError, match="expected user/repo"):
        _content(tmp_path, Card(base_model=base))


def test_results_must_be_about_the_published_file(tmp_path: Path) -> None:
    path = bhk_file(tmp_path / "a.bhk")
    mine = written(tmp_path / "mine.json", fidelity(sha256([path])))
    more = written(tmp_path / "more.json", accuracy(sha256([path])))
    content = card_content({"model.bhk": path}, "me/repo", Card(evaluation=[mine, more]))
    assert [result.protocol for result in content.files[0].evaluations] == ["fidelity", "accuracy"]
    same = card_content({"model.bhk": path}, "me/repo", Card(evaluation=read_reports(mine)[0]))
    assert same.files[0].evaluations == content.files[0].evaluations[:1]
    other = written(tmp_path / "other.json", fidelity("ab" * 32))
    with pytest.raises(
        EvaluationDocumentError, match=r"other\.json is about another file \(x\.bhk, SHA-256 abababababab…"
    ):
        card_content({"model.bhk": path}, "me/repo", Card(evaluation=[mine, other]))


def test_results_against_other_weights_are_pointed_out(tmp_path: Path) -> None:
    path = bhk_file(tmp_path / "a.bhk", metadata=source("sam.pth", SHA256))
    options: dict[str, Any] = {"license": "mit", "base_model": "some/model"}
    same = [written(tmp_path / "same.json", fidelity(sha256([path])))]
    assert card_content({"model.bhk": path}, "me/repo", Card(evaluation=same, **options)).hints == ()
    other = [written(tmp_path / "other.json", fidelity(sha256([path]), original="cd" * 32))]
    (hint,) = card_content({"model.bhk": path}, "me/repo", Card(evaluation=other * 2, **options)).hints
    assert (
        "the evaluation of model.bhk compares it with other weights (sam.pth, SHA-256 cdcdcdcdcdcd…) than it was"
        in hint
    )
    unknown = bhk_file(tmp_path / "b.bhk")
    other = [written(tmp_path / "unknown.json", fidelity(sha256([unknown]), original="cd" * 32))]
    assert card_content({"model.bhk": unknown}, "me/repo", Card(evaluation=other, **options)).hints == ()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = bhk_file(tmp_path / "a.bhk")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FormatError):
        card_content({"model.bhk": path}, "me/repo")


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
    content = _content(tmp_path, model=model, metadata=companions({"model_type": "x", **config}))
    assert content.files[0].transformers_class == name
    assert _content(tmp_path).files[0].transformers_class is None


def test_results_for_several_models_are_shared_out(tmp_path: Path) -> None:
    paths = {name: bhk_file(tmp_path / name, metadata={"note": name}) for name in ("a.bhk", "b.bhk")}
    reports = tuple(fidelity(sha256([path])) for path in paths.values())
    other = dataclasses.replace(reports[0], model=dataclasses.replace(reports[0].model, sha256="ab" * 32))
    EvaluationReport((*reports, other)).save(tmp_path / "all.json")
    for given in (tmp_path / "all.json", EvaluationReport((*reports, other))):
        content = card_content(paths, "me/repo", Card(evaluation=given))
        assert [file.evaluations for file in content.files] == [(report,) for report in reports]
    with pytest.raises(EvaluationDocumentError, match="the evaluation is about another file"):
        card_content(paths, "me/repo", Card(evaluation=EvaluationReport((other,))))
