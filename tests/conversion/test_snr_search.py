"""A signal-to-noise ratio that is asked for is the one that is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tasks.checkpoints import draw, save
from torch import nn

import bhk
from bhk.codec.fit import PresetError
from bhk.container.header import LayerEntry


def _measured(tensors: dict[str, torch.Tensor], path: Path | None, names: list[str]) -> float:
    assert path is not None
    decoded = bhk.load_state_dict(path)
    signal = sum(float(tensors[name].double().square().sum()) for name in names)
    noise = sum(float((tensors[name].double() - decoded[name]).square().sum()) for name in names)
    return float(10 * torch.tensor(signal / noise).log10())


def _coded(layers: tuple[LayerEntry, ...]) -> list[str]:
    return [layer.name for layer in layers if layer.encoding == "trajectory"]


def _tensors() -> dict[str, torch.Tensor]:
    """Tensors of three scales, one of them with an outlier, as those of trained models."""
    tensors = draw({"image_encoder.blocks.0.mlp.lin1.weight": (96, 90), "b.weight": (96, 90), "bias": (90,)})
    tensors |= draw({"faint.weight": (60, 50)}, scale=0.02, seed=1) | draw({"loud.weight": (60, 50)}, scale=0.1, seed=2)
    tensors["b.weight"][0, 0] = 0.6
    return tensors


@pytest.mark.parametrize("snr_db", [14.0, 20.0, 33.3])
def test_all_coded_weights_together_have_it(tmp_path: Path, snr_db: float) -> None:
    tensors = _tensors()
    report = bhk.convert(save(tmp_path / "a.pth", tensors), quality=bhk.Quality(snr_db=snr_db))
    assert _measured(tensors, report.path, _coded(report.layers)) == pytest.approx(snr_db, abs=0.1)


def test_a_calibrated_file_has_it_too(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 64))
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(300, 64, generator=generator) @ torch.randn(64, 64, generator=generator) ** 3]
    report = bhk.convert(model, tmp_path / "a.bhk", bhk.Quality(snr_db=18), calibration=samples)
    tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    assert _measured(tensors, report.path, ["0.weight", "2.weight"]) == pytest.approx(18, abs=0.1)


def test_compare_shows_what_was_asked_for(tmp_path: Path) -> None:
    report = bhk.compare(save(tmp_path / "a.pth", _tensors()), [bhk.Quality(snr_db=24)])
    assert report.choices[0].snr_db == pytest.approx(24, abs=0.1)


def test_tensors_with_a_ratio_of_their_own_have_it_and_do_not_count(tmp_path: Path) -> None:
    tensors = _tensors()
    quality = bhk.Quality(snr_db=20, snr_for={"*.weight": 34.0, "b.*": 25.0, "loud.*": 10.0, "image_encoder.*": 20.0})
    report = bhk.convert(save(tmp_path / "a.pth", tensors), quality=quality)
    found = {layer.name: layer.error.snr_db for layer in report.layers if layer.error}
    assert found["b.weight"] == pytest.approx(25, abs=0.1)  # the last pattern counts
    assert found["loud.weight"] == pytest.approx(10, abs=0.1)
    assert found["faint.weight"] == pytest.approx(34, abs=0.1)
    others = bhk.Quality(snr_db=20, snr_for={"loud.*": 30.0})
    report = bhk.convert(tmp_path / "a.pth", tmp_path / "others.bhk", others)
    names = [name for name in _coded(report.layers) if name != "loud.weight"]
    assert _measured(tensors, report.path, names) == pytest.approx(20, abs=0.1)


def test_a_ratio_out_of_reach_says_what_is_in_reach(tmp_path: Path) -> None:
    tensors = draw({"blocks.weight": (96, 90)}) | draw({"head.weight": (96, 90)}, scale=0.14)  # most of the power
    source = save(tmp_path / "a.pth", tensors)
    with pytest.raises(PresetError, match=r"of 4 dB was asked for; this checkpoint reaches \d+\.\d to 4\d\.\d dB"):
        bhk.convert(source, quality=bhk.Quality(snr_db=4))
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("snr_db", [12.0, 28.0, 40.0])
def test_weights_of_several_scales_have_it(tmp_path: Path, snr_db: float) -> None:
    """Where most weights are tiny, a step that suits those makes the others far too fine."""
    tensors = draw({"a.weight": (96, 90), "b.weight": (96, 90)}, scale=1e-4) | draw({"c.weight": (96, 90)}, seed=1)
    report = bhk.convert(save(tmp_path / "a.pth", tensors), quality=bhk.Quality(snr_db=snr_db))
    assert _measured(tensors, report.path, _coded(report.layers)) == pytest.approx(snr_db, abs=0.1)


def test_a_tensor_that_cannot_have_its_ratio_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bhk.codec.snr.MAX_ENCODINGS", 1)
    tensors = draw({"a.weight": (64, 64)})
    tensors["a.weight"][0, 0] = 40.0
    with pytest.raises(
        PresetError, match=r"a\.weight: a signal-to-noise ratio of 41 dB was asked for; the tensor reaches"
    ):
        bhk.convert(save(tmp_path / "a.pth", tensors), quality=bhk.Quality(snr_for={"a.*": 41.0}))


def test_weights_that_lose_nothing_are_fine_at_any_ratio(tmp_path: Path) -> None:
    report = bhk.convert(
        save(tmp_path / "a.pth", {"a.weight": torch.full((64, 64), 0.5)}), quality=bhk.Quality(snr_db=20)
    )
    assert report.path is not None
    assert torch.equal(bhk.load_state_dict(report.path)["a.weight"], torch.full((64, 64), 0.5))
