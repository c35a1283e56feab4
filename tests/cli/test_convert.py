from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch

import bhk as package
from cli.conftest import Shell


def test_it_says_what_was_done(bhk: Shell, source: Path) -> None:
    ended = bhk("convert", "sam.pth")
    assert (ended.status, ended.err) == (0, "")
    size = (bhk.folder / "sam.bhk").stat().st_size
    pattern = (
        rf"sam\.bhk: {size / 1000:.3g} kB, \d\.\d\d times smaller than 19\.4 kB, 2 of 4 tensors coded, \d+\.\d s\n"
    )
    assert re.fullmatch(pattern, ended.out)
    package.verify(bhk.folder / "sam.bhk", source)


def test_every_option_reaches_the_conversion(bhk: Shell, source: Path) -> None:
    bhk("convert", source, "-o", "a.bhk", "-p", "small", "--threads", 1)
    bhk("convert", source, "-o", "b.bhk", "--snr", 22, "--metadata", "license=A=B", "--metadata", "base_model=x/y")
    bhk("convert", source, "-o", "c.bhk", "--exact", "*.10.*", "--snr-for", "blocks.2.*=35", "--key", "model")
    bhk("convert", source, "-o", "d.bhk", "--only", "*.10.weight", "--only", "nothing*")  # refused: matches nothing
    bhk("convert", source, "-o", "d.bhk", "--only", "*.10.weight", "--ratio", 1.7)
    a, b, c, d = (package.inspect(bhk.folder / f"{name}.bhk") for name in "abcd")
    assert a.rows == package.inspect(package.convert(source, bhk.folder / "same.bhk", "small").path).rows
    assert b.total.snr_db == pytest.approx(22, abs=1)  # of the worse of two tensors
    assert (b.metadata["license"], b.metadata["base_model"]) == ("A=B", "x/y")
    assert {row.name: row.encoding for row in c.rows if row.shape} == {
        "blocks.2.bias": "exact",
        "blocks.2.weight": "trajectory",
        "blocks.10.weight": "exact",
    }
    assert next(row.snr_db for row in c.rows if row.snr_db) == pytest.approx(35, abs=0.1)
    assert [row.name for row in d.rows if row.encoding == "trajectory"] == ["blocks.10.weight"]
    assert d.ratio == pytest.approx(1.7, rel=0.02)


def test_json_is_the_whole_output(bhk: Shell, source: Path) -> None:
    document = bhk("convert", source, "-o", "sam.bhk", "--json").document
    seconds, ratio = document.pop("seconds"), document.pop("ratio")
    assert seconds > 0
    size = (bhk.folder / "sam.bhk").stat().st_size
    assert ratio == document.pop("float32_ratio") == document["source_bytes"] / size
    assert document == {
        "path": "sam.bhk",
        "source_bytes": sum(tensor.nbytes for tensor in torch.load(source)["model"].values()),
        "bytes": size,
        "coded": 2,
        "tensors": 4,
        "warnings": [],
        "left_out": [],
        "calibration": None,
    }


def test_ratios_of_half_precision_are_against_float32_too(bhk: Shell) -> None:
    torch.save({"a.weight": torch.randn(96, 90).half(), "b.weight": torch.randn(96, 90)}, bhk.folder / "half.pth")
    said = bhk("convert", "half.pth").out
    size = (bhk.folder / "half.bhk").stat().st_size
    ratios = f"{96 * 90 * 6 / size:.2f} times smaller than 51.8 kB ({96 * 90 * 8 / size:.2f} than float32)"
    assert ratios in said
    assert ratios in bhk("inspect", "half.bhk").out
    assert bhk("inspect", "half.bhk", "--json").document["float32_ratio"] == 96 * 90 * 8 / size
    compared = bhk("compare", "half.pth", "--presets", "balanced")
    assert "\nratios against float32 are 1.33 times as large\n" in compared.out
    assert all(len(line) <= 80 for line in compared.out.splitlines() if "masks" not in line)


def test_quiet_prints_nothing(bhk: Shell, source: Path) -> None:
    torch.save({"model": {"a": torch.full((40, 40), torch.nan)}, "epoch": 3}, source)
    ended = bhk("convert", source, "--quiet")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert (bhk.folder / "sam.bhk").is_file()


def test_a_dry_run_says_so(bhk: Shell, source: Path) -> None:
    ended = bhk("convert", source, "--dry-run")
    assert ended.status == 0
    assert ended.out.startswith("dry run, nothing written: about ")
    assert bhk("convert", source, "--dry-run", "--json").document["path"] is None
    assert list(bhk.folder.iterdir()) == [source]


def test_warnings_and_what_is_left_out_go_to_stderr(bhk: Shell, source: Path) -> None:
    torch.save(
        {"model": {"a.weight": torch.full((40, 40), torch.nan)}, "optimizer": {"state": {}, "param_groups": []}}, source
    )
    ended = bhk("convert", source)
    assert ended.out.startswith("sam.bhk: ") or ended.out.startswith(f"{source.with_suffix('.bhk')}: ")
    assert ended.err.splitlines() == [
        "left out: optimizer (state of 0 tensors)",
        "warning: a.weight holds NaN or infinity; it is kept exact",
    ]
    document = bhk("convert", source, "--force", "--json").document
    assert document["left_out"] == ["optimizer (state of 0 tensors)"]
    assert document["warnings"] == ["a.weight holds NaN or infinity; it is kept exact"]


def test_names_of_any_language_and_with_spaces(bhk: Shell) -> None:
    source = bhk.folder / "mön modèle 模型.pth"
    torch.save({"couche été 1.weight": torch.ones(40, 40), "вес": torch.ones(2)}, source)
    ended = bhk("convert", source.name)
    assert ended.out.startswith("mön modèle 模型.bhk: ")
    rows = bhk("inspect", "mön modèle 模型.bhk", "--json").document["rows"]
    assert [row["name"] for row in rows] == ["couche été 1.weight", "вес"]
    assert "couche été 1.weight  " in bhk("inspect", "mön modèle 模型.bhk").out
    assert bhk("verify", "mön modèle 模型.bhk", "--against", source.name).status == 0


@pytest.mark.skipif(os.name != "posix", reason="names of files are Unicode elsewhere")
def test_a_file_name_that_is_no_unicode(bhk: Shell, source: Path) -> None:
    ended = bhk("convert", source, "-o", "n\udcff.bhk")
    assert ended.status == 0
    assert ended.out.startswith("n\\udcff.bhk: ")
    assert os.path.exists(os.fsencode(bhk.folder) + b"/n\xff.bhk")
    assert bhk("inspect", "n\udcff.bhk", "--json").document["path"] == "n\udcff.bhk"
    assert "n\\udcff.bhk is intact" in bhk("verify", "n\udcff.bhk").out


def test_a_control_character_in_a_name_does_not_reach_the_terminal(bhk: Shell, source: Path) -> None:
    torch.save({"a\x1b[31m\nb.weight": torch.ones(40, 40)}, source)
    assert "'a\\x1b[31m\\nb.weight' with a control character" in bhk.fails("convert", source)


def test_progress_is_shown_on_a_terminal_only(bhk: Shell, source: Path) -> None:
    terminal, end = os.openpty()
    try:
        bhk.start("convert", source, stderr=Path(os.ttyname(end)))
        ended = bhk.wait()
        shown = os.read(terminal, 1 << 16).decode()
    finally:
        os.close(terminal)
        os.close(end)
    assert ended.status == 0
    assert "Working" in shown  # the stages of such a small file end before they are drawn
    assert "Working" not in ended.out
    assert bhk("convert", source, "--force").err == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.pth"], "none.pth does not exist; check the name, or use hf://user/repo for the Hub"),
        (["sam.pth", "-o", "none/sam.bhk"], "folder none does not exist; create it first"),
        (["sam.pth", "-o", "sam.pth", "--force"], "sam.pth is the file that is being read; give another name"),
        (["sam.pth", "-o", "."], ". is a folder; give the name of a file to write"),
        (["sam.pth", "-o", "old.bhk"], "old.bhk exists; use --force to overwrite it"),
        (["sam.pth", "--preset", "best"], "unknown preset 'best'; choose one of fine, balanced, small, birkhoff"),
        (["sam.pth", "--exact", "x*"], "pattern 'x*' matches none of"),
        (["sam.pth", "--snr-for", "steps=30"], "pattern 'steps' matches no tensor that is coded"),
        (["sam.pth", "--snr", "50"], "a signal-to-noise ratio of 50 dB was asked for; choose 3 to 42 dB"),
        (["sam.pth", "--ratio", "90"], "a ratio of 90 was asked for; this checkpoint reaches"),
        (["sam.pth", "--ratio", "5", "--snr", "20"], "both --snr and --ratio were given; give one of them"),
        (["sam.pth", "--key", "ema"], "sam.pth has no weights under the key 'ema'; it has: model (4 tensors)"),
        (
            ["sam.pth", "--metadata", "source.sha256=0"],
            "bhk writes the metadata entry 'source.sha256' itself",
        ),
        (["old.bhk"], "old.bhk is a text file"),
        (["."], ". holds no checkpoint"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(bhk: Shell, source: Path, args: list[str], message: str) -> None:
    (bhk.folder / "old.bhk").write_text("old")
    if args == ["."]:
        source.unlink()
    assert message in bhk.fails("convert", *args)
    assert {path.name for path in bhk.folder.iterdir()} <= {"sam.pth", "old.bhk"}
    assert (bhk.folder / "old.bhk").read_text() == "old"


@pytest.mark.parametrize("option", ["--limit", "--seed", "--work-dir", "--steps"])
def test_options_of_calibration_need_calibrate(bhk: Shell, source: Path, option: str) -> None:
    ended = bhk("convert", source, option, "2")
    assert ended.status == 2
    assert f"{option}: needs --calibrate" in ended.err


def test_a_full_disk(bhk: Shell, source: Path) -> None:
    message = bhk.fails("convert", source, "-o", "sam.bhk", file_size=4000)
    assert message == "cannot write sam.bhk: File too large; nothing was changed"
    assert list(bhk.folder.iterdir()) == [source]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_no_permission(bhk: Shell, source: Path) -> None:
    folder = bhk.folder / "closed"
    folder.mkdir(mode=0o555)
    assert bhk.fails("convert", source, "-o", "closed/a.bhk") == "cannot write closed/a.bhk: Permission denied"
    source.chmod(0)
    assert "Permission denied" in bhk.fails("convert", source)


def test_a_checkpoint_from_the_hub_lands_in_the_working_folder(
    bhk: Shell, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    snapshot = cache / "models--user--sam2.1-tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "sam2.1.pt").write_bytes(source.read_bytes())
    reference = snapshot.parent.parent / "refs" / "refs" / "pr" / "1"
    reference.parent.mkdir(parents=True)
    reference.write_text("0" * 40)
    environment = {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    for address, name in (
        ("hf://user/sam2.1-tiny@refs/pr/1", "sam2.1-tiny.bhk"),
        ("hf://user/sam2.1-tiny/sam2.1.pt@refs/pr/1", "sam2.1.bhk"),
    ):
        ended = bhk("convert", address, "--json", environment=environment)
        assert ended.document["path"] == name
        metadata = json.loads(bhk("inspect", name, "--json").out)["metadata"]
        assert metadata["source.name"] == address
    assert "not in the cache" in bhk.fails("convert", "user/other", environment=environment)


@pytest.mark.parametrize("instead", ["--snr", "--ratio", "--fidelity"])
def test_a_preset_and_a_number_in_its_place_are_refused(bhk: Shell, source: Path, instead: str) -> None:
    ended = bhk("convert", source, "--preset", "small", instead, 0.5)
    assert ended.status == 2
    assert f"{instead} takes the place of a preset; give one of them" in ended.err
    assert not (bhk.folder / "sam.bhk").exists()


def test_many_checkpoints(bhk: Shell, source: Path) -> None:
    (bhk.folder / "runs").mkdir()
    source.rename(bhk.folder / "runs" / "sam.pth")
    (bhk.folder / "runs" / "broken.pth").write_bytes(b"PK no zip")
    args = ("convert", "runs/*.pth", "--out-dir", "out")
    ended = bhk(*args)
    assert ended.status == 1
    titles, _, broken, sam, total = ended.out.splitlines()
    assert titles.split() == ["checkpoint", "result", "size", "times", "smaller", "seconds"]
    assert (broken.split()[:2], sam.split()[:2]) == (["runs/broken.pth", "failed"], ["runs/sam.pth", "converted"])
    assert total == "2 checkpoints: 1 converted, 0 unchanged, 1 failed"
    reason, error = ended.err.splitlines()
    assert reason.startswith("runs/broken.pth failed: ")
    assert error == "error: 1 of 2 checkpoints failed"
    (bhk.folder / "runs" / "broken.pth").unlink()
    document = bhk(*args, "--json").document
    assert {name: document[name] for name in ("converted", "unchanged", "failed")} == {
        "converted": 0,
        "unchanged": 1,
        "failed": 0,
    }
    ended = bhk(*args, "--preset", "small")
    assert "out/sam.bhk exists, and was made from other weights or with other options; use --force to ov" in ended.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("a.pth", "b.pth"), "several checkpoints need --out-dir"),
        (("a.pth", "--workers", "2"), "needs --out-dir"),
        (("a.pth", "--engine", "ray"), "needs --out-dir"),
        (("a.pth", "--out-dir", "out", "--out", "a.bhk"), "is for one checkpoint; leave out --out-dir"),
        (("a.pth", "--out-dir", "out", "--dry-run"), "is for one checkpoint; leave out --out-dir"),
        (("a.pth", "--out-dir", "out", "--ray-address", "auto"), "needs --engine ray"),
    ],
)
def test_options_of_one_checkpoint_and_of_many(bhk: Shell, args: tuple[str, ...], message: str) -> None:
    ended = bhk("convert", *args)
    assert ended.status == 2
    assert message in ended.err
