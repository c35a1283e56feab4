from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import clips
from PIL import Image
from sam import models
from sam.prediction.test_sam3 import save_tokenizer

import bhk as package
from bhk.pictures.rle import decode
from cli.conftest import Shell

_IMAGE = np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def _file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.save(models.small_sam().state_dict(), folder / "sam.pth")
    package.convert(folder / "sam.pth")
    return folder / "sam.bhk"


@pytest.fixture
def shell(bhk: Shell, _file: Path) -> Shell:
    """Runs command lines beside sam.bhk and picture.png (140 x 90 pixels)."""
    shutil.copy(_file, bhk.folder)
    Image.fromarray(_IMAGE).save(bhk.folder / "picture.png")
    return bhk


def test_a_table_of_masks(shell: Shell) -> None:
    ended = shell("segment", "sam.bhk", "picture.png", "--box", "10,10,60,70", "--box", "0,0,140,90")
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].split() == ["mask", "pixels", "x0,y0,x1,y1", "score"]
    assert [line.split()[0] for line in lines[2:]] == ["0", "1"]
    assert {path.name for path in shell.folder.iterdir()} == {"sam.bhk", "picture.png"}


def test_a_picture_with_the_masks(shell: Shell) -> None:
    args = ("segment", "sam.bhk", "picture.png", "--point", "40,30", "--not-point", "90.5,80", "--out", "out.png")
    ended = shell(*args, "--stats")
    assert ended.status == 0
    assert ended.out.splitlines()[-1] == "out.png: 1 mask of the single output"
    assert ended.err.startswith("load ")
    assert ended.err.endswith("B in use\n")
    assert Image.open(shell.folder / "out.png").size == (140, 90)
    assert shell.fails(*args) == "out.png exists; use --force to overwrite it"
    assert shell(*args, "--force", "--quiet").out == ""


def test_json_is_the_only_output(shell: Shell) -> None:
    args = ("--point", "40,30", "--multimask", "-o", "out.jpg")
    document: Any = shell("segment", "sam.bhk", "picture.png", *args, "--json").document
    found = package.segment(shell.folder / "sam.bhk", _IMAGE, points=[(40, 30)], multimask=True)
    assert document["model"] == {
        "path": "sam.bhk",
        "family": "sam",
        "variant": None,
        "ratio": package.inspect(shell.folder / "sam.bhk").ratio,
    }
    assert document["image"] == {"path": "picture.png", "width": 140, "height": 90}
    assert document["out"] == "out.jpg"
    assert document["output"] == "multimask"
    assert document["prompts"] == [{"points": [[40, 30]], "not_points": [], "box": None, "text": None}]
    assert set(document["seconds"]) == {"load", "encode", "decode"}
    assert document["peak_bytes"] > 0
    assert len(document["masks"]) == 3
    for index, mask in enumerate(document["masks"]):
        decoded = decode(mask["segmentation"])
        assert (decoded != found.masks[index]).mean() < 1e-3
        assert mask["area"] == decoded.sum()
        x, y, width, height = mask["bbox"]
        assert decoded[y : y + height, x : x + width].sum() == decoded.sum()
        assert mask["score"] == pytest.approx(found.scores[index], abs=1e-4)
        assert mask["prompt"] == 0


def test_everything_may_find_nothing(shell: Shell) -> None:
    args = ("segment", "sam.bhk", "picture.png", "--everything", "--points-per-side", "2")
    ended = shell(*args)
    assert (ended.status, ended.err) == (0, "no masks found\n")
    assert len(ended.out.splitlines()) == 2
    document = shell(*args, "--json").document
    assert (document["masks"], document["prompts"], document["output"]) == ([], [], "multimask")


@pytest.mark.parametrize("args", [["--mode", "dense", "--dtype", "bfloat16", "--device", "cpu"], ["--compute", "int8"]])
def test_ways_to_load(shell: Shell, args: list[str]) -> None:
    assert shell("segment", "sam.bhk", "picture.png", "--point", "40,30", *args).status == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give either --point and --box, or --text, or --everything"),
        (["--everything", "--point", "1,1"], "give either --point and --box, or --text, or --everything"),
        (["--point", "1"], "'1' is not x,y in pixels"),
        (["--point", "1,2,3"], "'1,2,3' is not x,y in pixels"),
        (["--not-point", "a,b"], "'a,b' is not x,y in pixels"),
        (["--box", "1,2,3"], "'1,2,3' is not x0,y0,x1,y1 in pixels"),
        (["--everything", "--points-per-side", "0"], "--points-per-side"),
        (["--point", "1,1", "--mode", "sparse"], "'sparse' is not one of"),
        (["--point", "1,1", "--frame", "1"], "--frame: is for clips: a folder of frames or a video file"),
        (["--point", "1,1@3"], "OBJECT: and @FRAME are for clips"),
        (["--box", "0:1,1,9,9"], "OBJECT: and @FRAME are for clips"),
        (["--point", "1,1@x"], "'1,1@x' is not x,y in pixels"),
    ],
)
def test_wrong_usage(shell: Shell, args: list[str], message: str) -> None:
    ended = shell("segment", "sam.bhk", "picture.png", *args)
    assert (ended.status, ended.out) == (2, "")
    assert message in " ".join(ended.err.replace("│", "").split())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sam.bhk", "none.png", "--point", "1,1"], "cannot read none.png: No such file or directory"),
        (["sam.bhk", "sam.bhk", "--point", "1,1"], "sam.bhk is a .bhk file; expected a picture: the model comes first"),
        (["none.bhk", "picture.png", "--point", "1,1"], "cannot read none.bhk: No such file or directory"),
        (["picture.png", "picture.png", "--point", "1,1"], "in an unknown format"),
        (
            ["sam.bhk", "picture.png", "--point", "140,1"],
            "point 140,1 is outside the picture, which is 140 x 90 pixels",
        ),
        (["sam.bhk", "picture.png", "--point", "nan,1"], "point nan,1 is outside the picture"),
        (["sam.bhk", "picture.png", "--box", "9,9,3,3"], "box 9,9,3,3 is empty"),
        (["sam.bhk", "picture.png", "--not-point", "9,9"], "only points outside the object"),
        (
            ["sam.bhk", "picture.png", "--point", "1,1", "--out", "a.tif"],
            "unknown suffix '.tif'; use .png, .jpg, .jpeg",
        ),
        (["sam.bhk", "picture.png", "--point", "1,1", "--out", "picture.png", "-f"], "is the file that is being read"),
        (["sam.bhk", "picture.png", "--point", "1,1", "--device", "abacus"], "device 'abacus' cannot be used"),
    ],
)
def test_an_error_is_one_line(shell: Shell, args: list[str], message: str) -> None:
    before = {path: path.read_bytes() for path in shell.folder.iterdir()}
    assert message in shell.fails("segment", *args)
    assert {path: path.read_bytes() for path in shell.folder.iterdir()} == before


def test_a_file_that_names_no_model(bhk: Shell, converted: Path) -> None:
    Image.fromarray(_IMAGE).save(bhk.folder / "picture.png")
    assert "does not say which model it holds" in bhk.fails("segment", converted, "picture.png", "--point", "1,1")


@pytest.mark.parametrize("option", ["--everything", "--multimask"])
def test_what_is_for_pictures_is_refused_for_clips(shell: Shell, option: str) -> None:
    ended = shell("segment", "sam.bhk", ".", *(["--point", "1,1"] if option == "--multimask" else []), option)
    assert ended.status == 2
    assert f"{option}: is for pictures, not for clips; give --point or --box" in " ".join(ended.err.split())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["sam.bhk", ".", "--point", "1,1"],
            "SAM has no memory of earlier frames; for a clip, use one of EdgeTAM",
        ),
        (["sam.bhk", ".", "--point", "1,1", "--frame", "1"], "frame 1 is outside the clip, whose frames are 0 to 0"),
        (["sam.bhk", "none.mp4", "--point", "1,1"], "cannot read none.mp4: no such file or folder"),
        (["sam.bhk", ".", "--point", "1,1", "-o", "."], ". holds the clip that is being read; give another name"),
        (
            ["sam.bhk", ".", "--point", "1,1", "--point", "9,9", "--not-point", "3,3", "--separate"],
            "leave one of them out",
        ),
    ],
)
def test_an_error_about_a_clip_is_one_line(shell: Shell, args: list[str], message: str) -> None:
    assert message in shell.fails("segment", *args)


def test_texts_find_all_objects_that_they_name(shell: Shell) -> None:
    models.finding(models.small_hf_sam3_video()).save_pretrained(shell.folder)
    save_tokenizer(shell.folder)
    package.convert(shell.folder / "model.safetensors", shell.folder / "sam3.bhk")
    args = ("segment", "sam3.bhk", "picture.png", "--text", "a cup", "--text", "a spoon")
    ended = shell(*args, "--out", "out.png")
    *_, last, wrote = ended.out.splitlines()
    assert (ended.status, wrote) == (0, f"out.png: {int(last.split()[0]) + 1} masks of the instances output")
    drawn = np.asarray(Image.open(shell.folder / "out.png"))
    assert drawn.shape == _IMAGE.shape
    assert not np.array_equal(drawn, _IMAGE)
    document = shell(*args, "--json").document
    assert [prompt["text"] for prompt in document["prompts"]] == ["a cup", "a spoon"]
    assert {found["prompt"] for found in document["masks"]} == {0, 1}
    assert decode(document["masks"][0]["segmentation"]).shape == (90, 140)
    (shell.folder / "tokenizer.json").unlink()
    assert "copy tokenizer.json" in shell.fails(*args)


@pytest.mark.full
def test_objects_in_several_frames_of_a_clip(bhk: Shell) -> None:
    models.small_hf_sam2_video().save_pretrained(bhk.folder)
    clips.write_folder(bhk.folder / "clip", 4)
    args = ("--box", "0:20,30,60,60", "--point", "1:90,20@2", "--point", "1:95,25@2", "--not-point", "1:5,5@2", "--box")
    document = bhk("segment", "model.safetensors", "clip", *args, "0:22,30,62,60@3", "--json").document
    assert [(prompt["object"], prompt["frame"]) for prompt in document["prompts"]] == [(0, 0), (1, 2), (0, 3)]
    assert document["prompts"][1]["points"] == [[90, 20], [95, 25]]
    assert document["prompts"][1]["not_points"] == [[5, 5]]
    assert {(mask["frame"], mask["object"]) for mask in document["masks"]} == {(i, o) for i in range(4) for o in (0, 1)}
    simple = bhk(
        "segment", "model.safetensors", "clip", "--point", "40,40", "--point", "44,44@2", "--frame", "1", "--json"
    )
    assert [(p["object"], p["frame"]) for p in simple.document["prompts"]] == [(0, 1), (0, 2)]


def test_texts_in_a_clip(bhk: Shell) -> None:
    model: Any = models.following_hf_sam3_video()
    model.config.score_threshold_detection = model.config.new_det_thresh = 0.0
    model.save_pretrained(bhk.folder)
    save_tokenizer(bhk.folder)
    clips.write_folder(bhk.folder / "clip", 2)
    ended = bhk("segment", "model.safetensors", "clip", "--text", "a cup", "-o", "out", "--json")
    document = json.loads(ended.out)  # transformers may say on stderr that it works without a package
    assert {prompt["text"] for prompt in document["prompts"]} == {"a cup"}
    assert len(document["masks"]) == 2 * len(document["prompts"])
    assert len(list((bhk.folder / "out").iterdir())) == 2
    ended = bhk("segment", "model.safetensors", "clip", "--text", "a cup", "--frame", "1")
    assert (ended.status, "--text: goes without other prompts in a clip" in " ".join(ended.err.split())) == (2, True)


def test_texts_for_a_model_without_them(shell: Shell) -> None:
    message = "this model takes no texts, only SAM 3 does; give points or boxes"
    assert shell.fails("segment", "sam.bhk", "picture.png", "--text", "a cup") == message
