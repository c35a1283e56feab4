from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from bhk.base.hashes import sha256
from bhk.hub.card_metadata import metadata_of
from bhk.publishing.card import make_card
from bhk.publishing.content import Card, CardContent, card_content
from bhk.publishing.model_index import model_index
from publishing.made_up import accuracy, bhk_file, entry, fidelity, source

_BY_HAND = {
    "task": {"type": "mask-generation"},
    "dataset": {"type": "mine", "name": "Mine"},
    "metrics": [{"type": "dice", "value": 0.9}],
}


def _content(folder: Path, *, measured: bool = True, name: str = "a.bhk", license: str = "mit") -> CardContent:
    path = bhk_file(folder / name, model=entry("sam_vit_b"), metadata=source("sam_vit_b_01ec64.pth") | {"note": name})
    digest = sha256([path])
    results = (fidelity(digest), accuracy(digest)) if measured else ()
    return card_content({"model.bhk": path}, "me/sam-b", Card(license=license, evaluation=results))


def _index(card: str) -> Any:
    return yaml.safe_load(metadata_of(card)[0].strip().strip("-")).get("model-index")


def test_the_hub_reads_what_was_measured(tmp_path: Path) -> None:
    content = _content(tmp_path)
    text = make_card(content)
    card = ModelCard(text)
    assert str(card) == text
    assert card.data.model_name == "sam-b"
    found = {(result.dataset_name, result.metric_name): result for result in card.data.eval_results or ()}
    assert {key: result.metric_value for key, result in found.items()} == {
        ("pictures of the publisher, without annotations", "mean IoU with the original's masks"): 0.9876,
        ("instances_val2017.json", "mIoU, prompted by box"): 0.75,
        ("instances_val2017.json", "mask AP, prompted by box"): 0.375,
        ("instances_val2017.json", "mIoU, prompted by point"): 0.5,
        ("instances_val2017.json", "mask AP, prompted by point"): 0.25,
    }
    miou = found["instances_val2017.json", "mIoU, prompted by box"]
    assert (miou.task_type, miou.dataset_type, miou.metric_type) == ("mask-generation", "coco", "mean_iou")
    assert miou.metric_args == {
        "file": "model.bhk",
        "file_sha256": content.files[0].sha256,
        "pictures": 5000,
        "seed": 0,
        "interval_95": [0.74, 0.76],
    }


def test_without_an_evaluation_there_is_none(tmp_path: Path) -> None:
    assert "model-index" not in make_card(_content(tmp_path, measured=False))


def test_results_stay_with_their_file(tmp_path: Path) -> None:
    first = make_card(_content(tmp_path))
    again = make_card(_content(tmp_path, measured=False), existing=first)
    assert _index(again) == _index(first)
    other = make_card(_content(tmp_path, measured=False, name="b.bhk"), existing=first)
    assert _index(other) is None
    assert _index(make_card(_content(tmp_path), existing=first)) == _index(first)


def test_results_written_by_hand_are_kept(tmp_path: Path) -> None:
    before = [{"name": "sam-b", "results": [_BY_HAND]}, {"name": "another", "results": [_BY_HAND]}]
    mine, another = model_index(_content(tmp_path), before)
    assert mine["results"][0] == _BY_HAND
    assert len(mine["results"]) == 3
    assert another == before[1]
    assert model_index(_content(tmp_path, measured=False), [mine, another]) == [mine, another]
    changed = _content(tmp_path, measured=False, name="b.bhk")
    assert model_index(changed, [mine, another]) == before


@pytest.mark.parametrize("before", ["text", {"name": "x"}, [1], [{"name": "x"}], [{"results": None}]])
def test_an_index_of_another_form_is_left_alone(tmp_path: Path, before: object) -> None:
    assert model_index(_content(tmp_path), before) == before


def test_several_files_are_told_apart(tmp_path: Path) -> None:
    paths = {name: bhk_file(tmp_path / name, metadata={"note": name}) for name in ("a.bhk", "b.bhk")}
    results = [fidelity(sha256([path])) for path in paths.values()]
    ((found,),) = (one["results"] for one in model_index(card_content(paths, "me/x", Card(evaluation=results)), None))
    assert [metric["name"] for metric in found["metrics"]] == [
        "mean IoU with the original's masks (a.bhk)",
        "mean IoU with the original's masks (b.bhk)",
    ]
