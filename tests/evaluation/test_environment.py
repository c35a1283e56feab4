from __future__ import annotations

import platform

import numpy as np
import torch

from bhk.evaluation.environment import Environment, environment, processor_name


def test_versions_and_processor() -> None:
    found = environment("cpu")
    assert (found.python, found.torch, found.numpy) == (platform.python_version(), torch.__version__, np.__version__)
    assert found.processor == processor_name() != ""
    assert found.device == "cpu"
    assert found.described.endswith(f"; {found.processor}")


def test_a_gpu_is_named_before_the_processor() -> None:
    found = Environment("3.12", "2.9", "2.3", "EPYC", "NVIDIA H100")
    assert found.described == "python 3.12, torch 2.9, numpy 2.3; NVIDIA H100, EPYC"
