from __future__ import annotations

import pickle

import pytest

from bhk.base.errors import BhkError, option
from bhk.cli.messages import as_option


@pytest.mark.parametrize(
    ("name", "value", "in_python", "on_the_command_line"),
    [
        ("force", True, "force=True", "--force"),
        ("mode", "dense", 'mode="dense"', "--mode dense"),
        ("limit", 8, "limit=8", "--limit 8"),
        ("images", None, "images", "--images"),
        ("work_dir", None, "work_dir", "--work-dir"),
        ("calibration", None, "calibration", "--calibrate"),
        ("snr_db", 30, "snr_db=30", "--snr 30"),
        ("output", "multi", 'output="multi"', "--multimask"),
    ],
)
def test_a_message_names_the_option_of_the_interface(
    name: str, value: object, in_python: str, on_the_command_line: str
) -> None:
    error = BhkError(f"give {option(name, value)}, not {option('seed')}")
    assert str(error) == f"give {in_python}, not seed"
    assert repr(error) == f"BhkError({str(error)!r})"
    assert error.message(as_option) == f"give {on_the_command_line}, not --seed"


def test_marks_survive_another_process() -> None:
    error = BhkError(f"use {option('force', True)}")
    assert pickle.loads(pickle.dumps(error)).message(as_option) == "use --force"
    assert BhkError(error.marked).message(as_option) == "use --force"


def test_a_message_without_options_stays_as_it_is() -> None:
    assert str(BhkError("a=b, {c}")) == BhkError("a=b, {c}").message(as_option) == "a=b, {c}"
