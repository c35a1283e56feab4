from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from sam import models

import bhk as package
from bhk.pictures.scenes import make_scene
from cli.conftest import Shell

_FEW = ("--points", "2", "--boxes", "1", "--workers", "1", "--no-control")


@pytest.fixture(scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.save(models.small_sam().state_dict(), folder / "sam.pth")
    package.convert(folder / "sam.pth")
    return folder


@pytest.fixture
def shell(bhk: Shell, _model: Path) -> Shell:
    """Runs command lines beside sam.pth, sam.bhk and pictures, a folder with three of them."""
    shutil.copytree(_model, bhk.folder, dirs_exist_ok=True)
    (bhk.folder / "pictures").mkdir()
    for number in range(3):
        Image.fromarray(make_scene((1 << 40) + number).picture).save(bhk.folder / "pictures" / f"{number}.png")
    return bhk


def test_a_table_of_agreement(shell: Shell) -> None:
    (shell.folder / "pictures" / "bad.png").write_bytes(b"no picture")
    args = ("eval", "sam.bhk", "--images", "pictures", "--against", "sam.pth", *_FEW, "--out", "results.json")
    ended = shell(*args)
    assert ended.status == 0
    assert ended.err.splitlines()[0].startswith("skipped bad.png: pictures/bad.png is not a picture of a known format")
    assert ended.err.splitlines()[1:] == ["wrote results.json"]
    head, columns, _, *rows, meanings, embedding = ended.out.splitlines()
    ratio = package.inspect(shell.folder / "sam.bhk").ratio
    assert head == f"sam.bhk, {ratio:.2f} times smaller, against sam.pth: 3 pictures, 1 skipped"
    assert columns.startswith("masks of")
    assert [row.split("  ")[0] for row in rows] == ["points", "boxes", "boxes, single mask", "all"]
    assert meanings.startswith("99 % reach: the lowest IoU apart from the worst 1 % of the masks; ")
    assert embedding.startswith("image embedding: cosine 0.9")
    document = json.loads((shell.folder / "results.json").read_bytes())
    assert (document["format"], document["protocol"], document["pictures"]) == ("bhk-evaluation", "fidelity", 3)
    assert shell.fails(*args) == "results.json exists; use --force to overwrite it"


def test_a_wrong_original_is_pointed_out(shell: Shell) -> None:
    package.export(shell.folder / "sam.bhk", shell.folder / "restored.pth")
    ended = shell("eval", "sam.bhk", "--images", "pictures", "--against", "restored.pth", *_FEW, "--limit", "1")
    assert ended.status == 0
    warning, *_ = ended.err.splitlines()
    assert warning.startswith("warning: sam.bhk was converted from other weights (SHA-256 ")
    assert "than restored.pth (" in warning


def test_several_models_in_one_table_and_one_csv_file(shell: Shell) -> None:
    package.convert(shell.folder / "sam.pth", shell.folder / "small.bhk", "small")
    args = ("--images", "pictures", "--against", "sam.pth", *_FEW, "--work-dir", "work")
    ended = shell("eval", "sam.bhk", "small.bhk", *args, "--out", "results.csv")
    assert ended.status == 0
    titles, _, *rows = ended.out.splitlines()
    assert titles.split("  ")[0] == "model"
    assert [row.split()[0] for row in rows[:8]] == ["sam.bhk"] * 4 + ["small.bhk"] * 4
    assert rows[8].startswith("masks of 3 pictures compared with those of sam.pth; ")
    assert f"torch {torch.__version__}" in rows[9]
    with (shell.folder / "results.csv").open() as file:
        found = list(csv.DictReader(file))
    single = shell("eval", "small.bhk", *args[:-2], "--json").document
    assert float(found[7]["iou_mean"]) == single["fidelity"]["all"]["iou_mean"]["value"]
    assert (found[7]["model"], found[7]["masks_of"], found[7]["original"]) == ("small.bhk", "all", "sam.pth")
    document = shell("eval", "sam.bhk", "small.bhk", *args, "--json").document
    assert [report["model"]["path"] for report in document["reports"]] == ["sam.bhk", "small.bhk"]
    assert "different models" in shell.fails("eval", "sam.bhk", *args)


def test_json_is_the_only_output_and_work_continues(shell: Shell) -> None:
    args = ("eval", "sam.bhk", "--images", "pictures", "--against", "sam.pth", *_FEW[:-1], "--work-dir", "work")
    document = shell(*args, "--json").document
    assert document["settings"]["control"]
    assert document["control"]["embedding_cosine"]["value"] > 0.999
    assert len(document["images"]) == 3
    assert document["fidelity"]["single"]["flips"] is None
    assert shell(*args, "--json").document == document
    assert "different seed" in shell.fails(*args, "--seed", "1")
    rows = shell(*args).out.splitlines()
    assert sum(row.startswith("control: ") for row in rows) == 4
    assert shell(*args, "--quiet").out == ""


def test_a_single_picture_has_no_interval(shell: Shell) -> None:
    args = ("eval", "sam.pth", "--images", "pictures", "--against", "sam.pth", *_FEW, "--limit", "1")
    document = shell(*args, "--json").document
    assert document["pictures"] == 1
    assert document["fidelity"]["all"]["iou_mean"] == {"value": 1.0, "low": None, "high": None}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--images", "pictures"], "--against"),
        (["--against", "sam.pth"], "--images"),
        (["--images", "pictures", "--against", "sam.pth", "--workers", "0"], "--workers"),
        (["--images", "pictures", "--against", "sam.pth", "--limit", "0"], "--limit"),
    ],
)
def test_wrong_usage(shell: Shell, args: list[str], message: str) -> None:
    ended = shell("eval", "sam.bhk", *args)
    assert (ended.status, ended.out) == (2, "")
    assert message in ended.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--images", "none"], "cannot read the folder none: No such file or directory"),
        (["--images", "."], ". holds no pictures"),
        (["--images", "pictures", "--device", "abacus"], "device 'abacus' cannot be used"),
        (["--images", "pictures", "--points", "0", "--boxes", "0"], "expected at least one prompt"),
        (["--images", "pictures", "--out", "none/a.json"], "folder none does not exist"),
        (
            ["--images", "pictures", "--out", "sam.pth", "--force"],
            "sam.pth: results are written as .json, .csv, .tex; choose one of these suffixes",
        ),
    ],
)
def test_an_error_is_one_line(shell: Shell, args: list[str], message: str) -> None:
    if args[1] == ".":
        shutil.rmtree(shell.folder / "pictures")
    assert message in shell.fails("eval", "sam.bhk", "--against", "sam.pth", *args)


def test_the_smallest_iou_is_a_gate(shell: Shell) -> None:
    args = ("eval", "sam.bhk", "sam.pth", "--images", "pictures", "--against", "sam.pth", *_FEW, "--limit", "1")
    assert shell(*args, "--min-iou", "0.1").status == 0
    ended = shell(*args, "--min-iou", "1.01", "--json", "-o", "results.json")
    document = json.loads(ended.out)
    iou = document["reports"][0]["fidelity"]["all"]["iou_mean"]["value"]
    assert (ended.status, ended.err) == (
        1,
        f"error: sam.bhk: the mean IoU of all masks is {iou:.4f}, less than 1.01\n",
    )
    assert json.loads((shell.folder / "results.json").read_bytes()) == document


def test_a_clip_needs_a_model_that_follows(shell: Shell) -> None:
    args = ("sam.bhk", "--against", "sam.pth", "--images", "pictures", "--follow", "--workers", "1")
    assert "SAM has no memory of earlier frames; for a clip, use one of EdgeTAM" in shell.fails("eval", *args)
    refused = shell("eval", *args, "--annotations", "truth.json")
    assert refused.status == 2
    assert "--follow: cannot be used with annotations" in " ".join(refused.err.split())


_SLURM = {
    f"SLURM_ARRAY_TASK_{name}": value for name, value in {"COUNT": "2", "MIN": "1", "MAX": "2", "STEP": "1"}.items()
}


def test_the_tasks_of_a_slurm_array_are_parts_and_are_merged(shell: Shell) -> None:
    for number in (3, 4):
        Image.fromarray(make_scene((1 << 40) + number).picture).save(shell.folder / "pictures" / f"{number}.png")
    args = (
        "eval",
        "sam.bhk",
        "--images",
        "pictures",
        "--against",
        "sam.pth",
        "--points",
        "2",
        "--boxes",
        "1",
        "--no-control",
    )
    whole = shell(*args, "--workers", "1", "--out", "whole.json")
    ended = shell(*args, "--work-dir", "work", environment={**_SLURM, "SLURM_ARRAY_TASK_ID": "2"})
    assert (ended.status, ended.out) == (0, "part 2/2: 1 of 5 pictures, in work\n")
    assert ended.err == "when all parts have ended, the same call with --merge gives the result\n"
    message = shell.fails(*args, "--work-dir", "work", "--merge")
    assert message == "work lacks 1 of 2 shards, those of 1/2; run these parts again"
    document = shell(*args, "--work-dir", "work", "--part", "1/2", "--json").document
    assert document == {"part": "1/2", "pictures": 4, "all_pictures": 5, "work_dir": "work"}
    merged = shell(*args, "--work-dir", "work", "--merge", "--out", "merged.json", environment=_SLURM)
    assert merged.out == whole.out
    assert (shell.folder / "merged.json").read_bytes() == (shell.folder / "whole.json").read_bytes()
    message = shell.fails(*args, "--work-dir", "work", "--merge", "--seed", "1")
    assert message.startswith("work holds results of other work (different seed)")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--part", "1/2"), "--work-dir, a folder that all parts share"),
        (("--merge",), "--work-dir, a folder that all parts share"),
        (("--merge", "--work-dir", "work", "--part", "1/2"), "leave out --part"),
        (("--merge", "--work-dir", "work", "--engine", "ray"), "leave out --workers and --engine"),
        (("--part", "1/2", "--work-dir", "work", "--out", "a.json"), "needs the results of all parts"),
        (("--part", "1/2", "--work-dir", "work", "--min-iou", "0.9"), "needs the results of all parts"),
        (("--gpus", "0.5"), "needs --engine ray"),
        (("--ray-address", "auto"), "needs --engine ray"),
    ],
)
def test_options_that_need_others(bhk: Shell, args: tuple[str, ...], message: str) -> None:
    ended = bhk("eval", "sam.bhk", "--images", "pictures", "--against", "sam.pth", *args)
    assert ended.status == 2
    assert message in ended.err


def test_texts_do_not_go_together_with_other_prompts(shell: Shell) -> None:
    args = ("eval", "sam.bhk", "--images", "pictures", "--against", "sam.pth", "--text", "cup")
    for option in (("--points", "2"), ("--boxes", "2"), ("--follow",)):
        assert "does not go together with --text" in shell(*args, *option).err
    assert shell.fails(*args, "--workers", "1") == "this model takes no texts, only SAM 3 does; give points or boxes"
