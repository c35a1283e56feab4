from __future__ import annotations

import json

import pytest
import torch
from sam import models
from sam.prediction.test_sam3 import save_tokenizer

import bhk as package
from cli.conftest import Shell
from tools.scene_set import write_scene_set


@pytest.fixture
def shell(bhk: Shell) -> Shell:
    """Runs command lines beside sam.pth and set, two annotated scenes."""
    torch.save(models.small_sam().state_dict(), bhk.folder / "sam.pth")
    package.convert(bhk.folder / "sam.pth")
    write_scene_set(bhk.folder / "set", scenes=2, format="coco", size=48)
    return bhk


def test_tables_of_miou_and_ap(shell: Shell) -> None:
    truth = ("--annotations", "set/annotations.json", "--detections", "set/detections.json", "--prompts", "box")
    ended = shell(
        "eval", "sam.bhk", "--images", "set/images", *truth, "--against", "sam.pth", "--workers", "1", "-o", "a.json"
    )
    assert ended.status == 0
    assert ended.err.startswith("2 × crowd: not prompted, ignored in AP; such as image 0")
    lines = ended.out.splitlines()
    assert lines[0].startswith("sam.bhk, ")
    assert lines[0].endswith("objects of set/annotations.json (coco); single mask")
    names = ["box", "detections", "original:", "original:"]
    assert [line.split()[0] for line in lines[3:7]] == names
    assert lines[7].startswith("small: mIoU of objects below 32² pixels; ")
    assert lines[8].split() == ["prompt", "AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert [line.split()[0] for line in lines[10:14]] == names
    assert lines[14].startswith("relative drop, prompted by box: mIoU ")
    assert len(lines) == 15
    found = json.loads((shell.folder / "a.json").read_bytes())
    assert (found["protocol"], found["format"], len(found["accuracy"])) == ("accuracy", "bhk-evaluation", 2)


def test_options_that_do_not_go_together(bhk: Shell) -> None:
    for args in (("--points", "3", "--annotations", "a.json"), ("--detections", "a.json"), ("--multimask",)):
        assert bhk("eval", "sam.bhk", "--images", ".", *args).status == 2


def test_texts_come_from_the_categories(shell: Shell) -> None:
    pytest.importorskip("transformers")
    models.finding(models.small_hf_sam3()).save_pretrained(shell.folder)
    save_tokenizer(shell.folder)
    truth = ("--annotations", "set/annotations.json", "--workers", "1", "--limit", "1")
    args = ("eval", "model.safetensors", "--images", "set/images", *truth)
    (found,) = shell(*args, "--prompts", "text", "--json").document["accuracy"]
    assert found["prompt"] == "text"
    assert found["miou"] is not None
    assert "use --prompts text, which asks for the names of categories" in shell.fails(*args)
    assert "--prompts text asks for their categories" in " ".join(shell(*args, "--text", "cup").err.split())


def test_another_split_is_one_line(shell: Shell) -> None:
    for path in (shell.folder / "set" / "images").iterdir():
        path.rename(path.with_stem(f"other_{path.stem}"))
    message = shell.fails("eval", "sam.bhk", "--images", "set/images", "--annotations", "set/annotations.json")
    assert message.startswith("0 of 2 annotated pictures are in set/images, which holds 2 pictures")


def test_the_largest_drop_is_a_gate(shell: Shell) -> None:
    truth = ("--annotations", "set/annotations.json", "--prompts", "box", "--workers", "1")
    args = ("eval", "sam.bhk", "--images", "set/images", *truth)
    assert shell(*args, "--max-drop", "1").status == 2
    assert shell(*args, "--against", "sam.pth", "--max-drop", "1000").status == 0
    ended = shell(*args, "--against", "sam.pth", "--max-drop", "-1000", "--json")
    (drop,) = json.loads(ended.out)["drops"]
    name, found = ("mIoU", drop["miou"]) if drop["ap"] is None else ("AP", drop["ap"])
    expected = f"sam.bhk: the drop of {name}, prompted by box, is {100 * found['value']:.2f} %, more than -1000 %"
    assert (ended.status, ended.err) == (1, f"error: {expected}\n")
