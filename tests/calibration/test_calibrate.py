from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bhk.base.files import WriteError
from bhk.base.workdir import WorkDirError
from bhk.calibration import calibrate as module
from bhk.calibration.calibrate import CalibrationResult, calibrate
from bhk.calibration.errors import CalibrationError
from bhk.calibration.inputs import BatchInputs
from bhk.codec.feedback import feedback_from


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(2, 6, 3)
            self.odd = nn.Conv2d(6, 6, 1, groups=6)
            self.table_embed = nn.Parameter(torch.randn(1, 6, 6, 6))
            self.first = nn.Linear(6, 10)
            self.second = nn.Linear(10, 4)
            self.aside = nn.Linear(10, 10)

    def forward(self, picture: Tensor) -> Tensor:
        grid = self.odd(self.conv(picture)) + self.table_embed
        return self.second(torch.relu(self.first(grid.flatten(2).transpose(1, 2))))


def _batches(count: int = 3) -> BatchInputs:
    generator = torch.Generator().manual_seed(1)
    return BatchInputs(tuple(torch.randn(2, 2, 8, 8, generator=generator) for _ in range(count)))


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {f"net.{name}": weight for name, weight in model.named_parameters() if weight.ndim > 1}


def _calibrated(folder: Path, **options: object) -> CalibrationResult:
    model = Model()
    return calibrate(model, _weights(model), _batches(), folder=folder, fingerprint={"it": "1"}, **options)  # type: ignore[arg-type]


def test_feedback_and_sensitivity_of_what_can_have_them(tmp_path: Path) -> None:
    model = Model()
    found = calibrate(model, _weights(model), _batches(), folder=tmp_path, fingerprint={})
    assert found.without_feedback == {
        "net.odd.weight": "has rows of odd length",
        "net.table_embed": "belongs to no linear layer or convolution",
        "net.aside.weight": "received no input as a linear layer or convolution",
    }
    assert found.insensitive == ("net.aside.weight",)
    rows = torch.cat([model.odd(model.conv(batch)) + model.table_embed for batch in _batches().batches]).detach()
    inputs = rows.flatten(2).transpose(1, 2).reshape(-1, 6)
    expected = feedback_from(inputs.T @ inputs, found.chance["net.first.weight"])
    feedback = found.feedback("net.first.weight")
    assert expected is not None
    assert feedback is not None
    assert torch.equal(feedback.order, expected.order)
    assert torch.allclose(feedback.factor, expected.factor, rtol=1e-3, atol=1e-6)
    assert 0 < feedback.chance == found.chance["net.first.weight"] < 0.5
    assert found.feedback("net.odd.weight") is None
    assert found.sensitivity is not None
    assert 0 < found.sensitivity["net.first.weight"].fed < found.sensitivity["net.first.weight"].plain
    assert found.sensitivity["net.table_embed"].fed == found.sensitivity["net.table_embed"].plain > 0


def test_sensitivity_is_left_out_where_it_is_not_wanted(tmp_path: Path) -> None:
    found = _calibrated(tmp_path, sensitivity=False)
    assert found.sensitivity is None
    assert found.insensitive == ()
    assert list(found.seconds) == ["moments"]


def test_moments_of_a_few_layers_at_a_time_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _calibrated(tmp_path / "whole")
    stages: list[str] = []
    monkeypatch.setattr(module, "MEMORY", 500)
    parts = _calibrated(tmp_path / "parts", progress=lambda stage, done, total: stages.append(stage))
    assert "Moments 2/4" in stages
    for name in ("net.conv.weight", "net.first.weight", "net.second.weight"):
        one, other = whole.feedback(name), parts.feedback(name)
        assert one is not None
        assert other is not None
        assert torch.equal(one.factor, other.factor)
    assert whole.sensitivity == parts.sensitivity
    assert whole.chance == parts.chance


@pytest.mark.parametrize("stop", [("Moments", 2 * 4), ("Sensitivity", 6)])  # after two samples, and after one
def test_work_that_was_stopped_goes_on(tmp_path: Path, stop: tuple[str, int]) -> None:
    whole = _calibrated(tmp_path / "whole")

    def interrupt(stage: str, done: int, total: int) -> None:
        if (stage, done) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _calibrated(tmp_path / "stopped", progress=interrupt)
    first: dict[str, int] = {}
    resumed = _calibrated(tmp_path / "stopped", progress=lambda stage, done, total: first.setdefault(stage, done))
    assert first[stop[0]] == stop[1] if stop[0] == "Moments" else first == {"Sensitivity": 0}
    assert resumed.sensitivity == whole.sensitivity
    assert resumed.chance == whole.chance
    one, other = whole.feedback("net.first.weight"), resumed.feedback("net.first.weight")
    assert one is not None
    assert other is not None
    assert torch.equal(one.factor, other.factor)


def test_a_second_time_nothing_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _calibrated(tmp_path)
    monkeypatch.setattr(BatchInputs, "run", lambda *_: pytest.fail("the model was shown something"))
    assert _calibrated(tmp_path).sensitivity == before.sensitivity


def test_progress_counts_every_layer_once_a_sample(tmp_path: Path) -> None:
    calls: dict[str, list[tuple[int, int]]] = {}
    _calibrated(tmp_path, progress=lambda stage, done, total: calls.setdefault(stage, []).append((done, total)))
    assert list(calls) == ["Moments", "Feedback", "Sensitivity"]
    for stage, total in (("Moments", 3 * 4), ("Feedback", 3), ("Sensitivity", 2 * 6)):
        assert calls[stage] == sorted(calls[stage])
        assert calls[stage][0] == (0, total)
        assert calls[stage][-1] == (total, total)
        assert len(set(calls[stage])) > 3


def test_a_folder_of_other_work(tmp_path: Path) -> None:
    _calibrated(tmp_path)
    model = Model()
    with pytest.raises(WorkDirError, match=r"holds results of other work \(different it"):
        calibrate(model, _weights(model), _batches(), folder=tmp_path, fingerprint={"it": "2"})


def test_a_layer_whose_inputs_are_no_numbers_is_coded_plainly(tmp_path: Path) -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.good, self.bad = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.good(x) + torch.nan_to_num(self.bad(x / 0)) * 0

    model = Half()
    weights = {name: weight for name, weight in model.named_parameters() if weight.ndim > 1}
    found = calibrate(
        model, weights, BatchInputs((torch.randn(3, 4),)), folder=tmp_path, fingerprint={}, sensitivity=False
    )
    assert found.without_feedback == {"bad.weight": "received only zeros, or values that are not finite"}
    assert found.feedback("good.weight") is not None


def test_a_model_that_answers_nan(tmp_path: Path) -> None:
    model = Model()
    with torch.no_grad():
        model.second.weight.fill_(float("nan"))
    with pytest.raises(CalibrationError, match="returns NaN or infinity"):
        calibrate(model, _weights(model), _batches(), folder=tmp_path, fingerprint={})


def test_attention_of_torch_shows_its_products(tmp_path: Path) -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True).eval()
    weights = {name: weight for name, weight in layer.named_parameters() if weight.ndim > 1}
    inputs = BatchInputs((torch.randn(2, 5, 16),))
    found = calibrate(layer, weights, inputs, folder=tmp_path, fingerprint={}, sensitivity=False)
    assert found.without_feedback == {}


def test_a_damaged_work_folder(tmp_path: Path) -> None:
    _calibrated(tmp_path)
    path = tmp_path / "feedback-0.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WorkDirError, match=r"feedback-0\.safetensors is not a result of this work .*; remove the file"):
        _calibrated(tmp_path)


def test_no_room_for_what_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(WriteError, match="No space left on device; calibration needs space there"):
        _calibrated(tmp_path)


@pytest.mark.parametrize("notes", ["no JSON", "[1]", '{"net.first.weight": 1}', '{"net.first.weight": ""}'])
def test_damaged_notes_are_refused(tmp_path: Path, notes: str) -> None:
    _calibrated(tmp_path)
    save_file({}, tmp_path / "feedback-0.safetensors", {"notes": notes})
    with pytest.raises(WorkDirError, match=r"feedback-0\.safetensors is not a result of this work"):
        _calibrated(tmp_path)


@pytest.mark.parametrize(
    "metadata", [{"gathered": "two"}, {"gathered": '{"samples": 1, "blocks": {"a": [1, 2.0]}}'}, {}]
)
def test_damaged_sums_are_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    save_file({}, tmp_path / "moments-0.safetensors", metadata)
    with pytest.raises(WorkDirError, match=r"moments-0\.safetensors is not a result of this work"):
        _calibrated(tmp_path)
