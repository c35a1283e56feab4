"""How much memory loading takes, in a process of its own: its resident set as the system counts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import bhk

LAYERS, WIDTH = 12, 1024
DENSE = 4 * LAYERS * WIDTH**2

_PROGRAM = """
import json, sys
from pathlib import Path
import torch
from torch import nn
import bhk
from bhk.nn import weights_on_meta

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

def load(path, mode):
    with bhk.open(path) as file, weights_on_meta():
        model = nn.Sequential(*(nn.Linear(*layer.shape) for layer in file.layers if len(layer.shape) == 2))
    return model, bhk.load_into(model, path, mode=mode, threads=2)

small, large, mode = sys.argv[1:]
torch.set_num_threads(1)
load(small, mode)  # so that memory of first uses does not count
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
model, report = load(large, mode)
print(json.dumps([resident("VmHWM") - before, report.bytes]))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("memory")
    torch.manual_seed(0)
    for layers in (1, LAYERS):
        model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(layers)))
        torch.save(model.state_dict(), folder / f"{layers}.pth")
    return [str(bhk.convert(folder / f"{layers}.pth", threads=2).path) for layers in (1, LAYERS)]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not count a peak anew")
@pytest.mark.parametrize(("mode", "least", "most"), [("hyper", 0.2, 0.8), ("dense", 0.9, 1.4)])
def test_the_memory_peak_is_that_of_the_loaded_model(files: list[str], mode: str, least: float, most: float) -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, *files, mode], capture_output=True, text=True, check=True)
    peak, resident = json.loads(done.stdout)
    assert least * DENSE < resident < most * DENSE
    assert peak < most * DENSE
