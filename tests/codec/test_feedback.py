from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bhk.codec.codebook import Codebook
from bhk.codec.feedback import DAMPING, Feedback, encode_with_feedback, feedback_from
from bhk.codec.shape import Shape
from bhk.codec.tensor import encode_tensor


def _inputs(columns: int, count: int = 4000, seed: int = 0) -> Tensor:
    """Return inputs (count, columns) whose columns are much alike, as those of a network are."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator) * torch.logspace(0, -2, columns)[:, None]
    return torch.randn(count, columns, generator=generator) @ mixing


def _moments(columns: int) -> Tensor:
    inputs = _inputs(columns)
    return inputs.T @ inputs


def _weight(rows: int, columns: int) -> Tensor:
    return 0.05 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))


def _output_error(weight: Tensor, decoded: Tensor, moments: Tensor) -> float:
    error = (decoded - weight).double()
    return float(((error @ moments.double()) * error).sum())


def _reference(weight: Tensor, moments: Tensor, codebook: Codebook) -> Tensor:
    """Return the decoded weight, by optimal brain surgery in float64, one weight column after the other.

    After each column, those left over are moved by what minimises the change of the outputs, from the inverse of the damped
    moments of all columns that were still free: no Cholesky factor, no blocks.
    """
    columns = weight.shape[1]
    damped = moments.double() + DAMPING * moments.double().diagonal().mean() * torch.eye(columns, dtype=torch.float64)
    power = moments.double().diagonal().view(-1, 2).sum(1)
    order = [
        column for pair in power.argsort(descending=True, stable=True).tolist() for column in (2 * pair + 1, 2 * pair)
    ]
    n, step = codebook.windings, codebook.side / codebook.windings
    centre = torch.tensor(codebook.centre, dtype=torch.float64).repeat(columns // 2)
    left, decoded = weight.double() - centre, torch.empty_like(weight, dtype=torch.float64)
    phase = torch.zeros(len(weight), dtype=torch.float64)
    for at, column in enumerate(order):
        free = order[at:]
        inverse = damped[free][:, free].inverse()
        if column % 2:
            phase = (left[:, column] / step + (n - 1) / 2).round().clamp(0, n - 1)
            decoded[:, column] = (phase - (n - 1) / 2) * step
        else:
            origin = (n * n - 1) / 2
            winding = (left[:, column] / step + (origin - phase) / n).round().clamp(0, n - 1)
            decoded[:, column] = (winding * n + phase - origin) * step / n
        error = (left[:, column] - decoded[:, column]) / inverse[0, 0]
        left[:, free] -= error[:, None] * inverse[0]
    return decoded + centre


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (5, 14), (33, 130), (7, 300)])
def test_codes_are_those_of_optimal_brain_surgery(rows: int, columns: int) -> None:
    weight, moments = _weight(rows, columns), _moments(columns)
    feedback = feedback_from(moments)
    assert feedback is not None
    coded = encode_with_feedback(weight.view(-1, 2), 0.02, feedback)
    assert coded is not None
    codebook, codes = coded
    decoded = codebook.decode(codes).view(rows, columns)
    expected = _reference(weight, moments, codebook)
    # Ties of rounding aside, and what follows from them.
    assert float(((decoded - expected).abs() < 1e-5).float().mean()) > 0.97
    assert _output_error(weight, decoded, moments) == pytest.approx(_output_error(weight, expected, moments), rel=0.05)


def test_outputs_change_far_less_than_by_plain_rounding_at_the_same_step() -> None:
    weight, moments = _weight(96, 128), _moments(128)
    plain = encode_tensor(weight, "rows", 0.03)
    fed = encode_tensor(weight, "rows", 0.03, feedback_from(moments))
    assert _output_error(weight, fed.decode(), moments) < 0.2 * _output_error(weight, plain.decode(), moments)
    assert fed.nbytes < 1.05 * plain.nbytes
    assert fed.codebook is not None
    assert fed.codebook.step == pytest.approx(0.03)


def test_inputs_that_are_not_alike_leave_nothing_to_carry() -> None:
    weight = _weight(20, 30)
    feedback = feedback_from(torch.eye(30) * 7)
    assert torch.equal(
        encode_tensor(weight, "rows", 0.02, feedback).decode(), encode_tensor(weight, "rows", 0.02).decode()
    )


def test_pairs_far_outside_go_to_shells_and_their_error_is_carried() -> None:
    weight, moments = _weight(40, 64), _moments(64)
    weight[3, 7], weight[9, 40], weight[30, 63] = 3.0, -2.0, 40.0
    feedback = feedback_from(moments)
    fed, plain = encode_tensor(weight, "rows", 0.01, feedback), encode_tensor(weight, "rows", 0.01)
    assert fed.codebook is not None
    assert fed.codebook.shells
    decoded = fed.decode()
    for row, column in ((3, 7), (9, 40), (30, 63)):
        assert float(decoded[row, column]) == pytest.approx(float(weight[row, column]), rel=0.1)
    assert _output_error(weight, decoded, moments) < _output_error(weight, plain.decode(), moments)


def test_what_is_carried_out_of_the_square_widens_it() -> None:
    half, moments = torch.rand(200, 64, generator=torch.Generator().manual_seed(2)) - 0.5, _moments(64)
    weight, step = torch.cat([half, -half]), 1 / 63.5  # the square of 64 windings holds the weights, but not much more
    fed, plain = (encode_tensor(weight, "rows", step, feedback) for feedback in (feedback_from(moments), None))
    assert plain.codebook is not None
    assert fed.codebook is not None
    assert plain.codebook.windings == 64
    assert fed.codebook.windings > 64
    assert fed.codebook.step == pytest.approx(step)


def test_rows_of_odd_length_are_padded() -> None:
    weight, moments = _weight(12, 33), _moments(33)
    feedback = feedback_from(moments)
    assert feedback is not None
    assert len(feedback.order) == 17
    fed = encode_tensor(weight, "rows", 0.02, feedback)
    assert fed.decode().shape == weight.shape
    plain = encode_tensor(weight, "rows", 0.02)
    assert _output_error(weight, fed.decode(), moments) < 0.5 * _output_error(weight, plain.decode(), moments)


def test_convolutions_are_coded_as_their_unfolded_matrix() -> None:
    weight, moments = _weight(16, 54), _moments(54)
    conv = encode_tensor(weight.view(16, 6, 3, 3), "flat", 0.02, feedback_from(moments))
    assert torch.equal(conv.decode().view(16, 54), encode_tensor(weight, "rows", 0.02, feedback_from(moments)).decode())


def test_half_precision_weights_and_constant_ones() -> None:
    weight, moments = _weight(16, 32), _moments(32)
    assert encode_tensor(weight.bfloat16(), "rows", 0.02, feedback_from(moments)).decode().dtype == torch.bfloat16
    constant = encode_tensor(torch.full((16, 32), 0.5), "rows", 0.02, feedback_from(moments))
    assert torch.equal(constant.decode(), torch.full((16, 32), 0.5))


def test_singular_moments_are_made_regular() -> None:
    few = _inputs(64, count=10)
    few[:, 5] = 0
    weight = _weight(8, 64)
    feedback = feedback_from(few.T @ few)
    assert feedback is not None
    fed = encode_tensor(weight, "rows", 0.02, feedback).decode()
    assert bool(fed.isfinite().all())
    assert float((fed - weight).abs().max()) < 1


def test_moments_that_are_all_chance_give_plain_rounding() -> None:
    weight, moments = _weight(8, 64), _moments(64)
    feedback = feedback_from(moments, chance=1.0)
    assert feedback is not None
    plain, fed = (encode_tensor(weight, "rows", 0.02, one).decode() for one in (None, feedback))
    assert torch.equal(fed, plain)
    assert feedback.output_change(weight) == pytest.approx(float(weight.square().sum()))


def test_the_more_chance_the_less_is_compensated() -> None:
    weight, moments = _weight(64, 64), _moments(64)
    changes = []
    for chance in (0.0, 0.1, 0.5, 1.0):
        fed = encode_tensor(weight, "rows", 0.02, feedback_from(moments, chance)).decode()
        changes.append(_output_error(weight, fed, moments))
    assert changes == sorted(changes)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_moments_that_say_nothing(value: float) -> None:
    assert feedback_from(torch.full((4, 4), value)) is None


def test_expected_change_is_that_of_the_errors_made() -> None:
    weight, moments = 0.1 * _weight(600, 48) / 0.05, _moments(48)
    feedback, step = feedback_from(moments), 0.004
    assert isinstance(feedback, Feedback)
    error = encode_tensor(weight, "rows", step, feedback).decode() - weight
    gradient = torch.randn(48, generator=torch.Generator().manual_seed(3)).expand(600, 48)
    made = float((error * gradient).sum(1).double().square().sum())  # errors of rows are independent
    expected = sum(feedback.output_change(row[None]) for row in gradient[:1]) * len(gradient) * step**2 / 12
    assert made == pytest.approx(expected, rel=0.2)
    assert Shape((600, 48), "rows").count * 2 == gradient.numel()
