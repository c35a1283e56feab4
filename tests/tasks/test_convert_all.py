from __future__ import annotations

from pathlib import Path

import pytest
import torch

import bhk
from bhk.tasks.convert_all import ConversionsReport, convert_all
from tasks.checkpoints import save, small


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two checkpoints, and one that is damaged."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "deep").mkdir(parents=True)
    save(tmp_path / "runs" / "a.pth", small())
    save(tmp_path / "runs" / "deep" / "b.pth", {"model": small(), "optimizer": {"state": {}, "param_groups": []}})
    (tmp_path / "runs" / "broken.pth").write_bytes(b"PK no zip")
    return tmp_path


def _statuses(report: ConversionsReport) -> dict[str, str]:
    return {found.path.as_posix(): found.status for found in report.checkpoints}


@pytest.mark.parametrize("workers", [1, 2])
def test_one_failure_does_not_stop_the_others(folder: Path, workers: int) -> None:
    seen = []
    report = convert_all(
        "runs", "out", workers=workers, progress=lambda stage, done, total: seen.append((stage, done, total))
    )
    assert _statuses(report) == {"out/a.bhk": "converted", "out/broken.bhk": "failed", "out/deep/b.bhk": "converted"}
    assert seen == [("Converting", done, 3) for done in range(4)]
    failed, hint = report.hints
    assert failed.startswith("runs/broken.pth failed: ")
    assert hint == "runs/deep/b.pth: left out: optimizer (state of 0 tensors)"
    assert not (folder / "out" / "broken.bhk").exists()
    bhk.convert("runs/a.pth", "alone.bhk")
    assert (folder / "out" / "a.bhk").read_bytes() == (folder / "alone.bhk").read_bytes()
    found = report.checkpoints[0]
    assert (found.bytes, found.ratio) == ((folder / "alone.bhk").stat().st_size, bhk.inspect("alone.bhk").ratio)
    assert str(report).splitlines()[-1] == "3 checkpoints: 2 converted, 0 unchanged, 1 failed"


def test_nor_does_an_error_of_another_type(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bhk.tasks.convert_all.prepare", _without_memory)
    report = convert_all("runs", "out", workers=1)
    assert set(_statuses(report).values()) == {"failed"}
    assert report.hints[0].endswith(
        "failed: not enough memory, or no more threads; end other programs, or use fewer threads"
    )


def _without_memory(*args: object, **options: object) -> None:
    raise MemoryError("too little")


def test_what_is_done_and_unchanged_is_kept(folder: Path) -> None:
    options = {"metadata": {"license": "MIT"}}
    first = convert_all("runs/*.pth", "out", "small", **options)
    assert _statuses(first) == {"out/a.bhk": "converted", "out/broken.bhk": "failed"}
    before = (folder / "out" / "a.bhk").stat().st_mtime_ns
    save(folder / "runs" / "broken.pth", {"weight": torch.ones(40, 40)})  # repaired
    second = convert_all("runs/*.pth", "out", "small", **options)
    assert _statuses(second) == {"out/a.bhk": "unchanged", "out/broken.bhk": "converted"}
    assert (folder / "out" / "a.bhk").stat().st_mtime_ns == before
    assert second.document()["checkpoints"][0] == {
        "source": "runs/a.pth",
        "path": "out/a.bhk",
        "status": "unchanged",
        "bytes": (folder / "out" / "a.bhk").stat().st_size,
        "ratio": None,
        "seconds": second.checkpoints[0].seconds,
        "hints": [],
        "error": None,
    }
    for quality, metadata in (("fine", options["metadata"]), ("small", {})):
        found = convert_all("runs/a.pth", "out", quality, metadata=metadata).checkpoints[0]
        assert found.status == "failed"
        assert str(found.marked_error).startswith(
            "out/a.bhk exists, and was made from other weights or with other options"
        )
    save(folder / "runs" / "a.pth", {**small(), "blocks.2.bias": torch.zeros(48)})  # trained on: same shapes
    assert convert_all("runs/a.pth", "out", "small", **options).count("failed") == 1
    assert convert_all("runs/a.pth", "out", "small", force=True, **options).count("converted") == 1
    assert convert_all("runs/a.pth", "out", "small", **options).count("unchanged") == 1


def test_a_file_that_is_no_bhk_file_is_not_replaced(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "a.bhk").write_bytes(b"notes")
    assert convert_all("runs/a.pth", "out").count("failed") == 1
    assert (folder / "out" / "a.bhk").read_bytes() == b"notes"


def test_two_files_of_one_model_are_one(folder: Path) -> None:
    """The two files of MobileSAMv2."""
    encoder = {"patch_embed.weight": torch.randn(48, 40)}
    decoder = {
        "PromtEncoder": {"point_embeddings.0.weight": torch.randn(1, 40)},
        "MaskDecoder": {"iou_token.weight": torch.randn(1, 40)},
    }
    (folder / "runs" / "v2").mkdir()
    save(folder / "runs" / "v2" / "encoder.pt", encoder)
    save(folder / "runs" / "v2" / "decoder.pt", decoder)
    assert _statuses(convert_all("runs/v2", "out")) == {"out/v2.bhk": "converted"}
    assert {row.name for row in bhk.inspect("out/v2.bhk").rows} >= {
        "image_encoder.patch_embed.weight",
        "prompt_encoder.point_embeddings.0.weight",
        "mask_decoder.iou_token.weight",
    }
