"""Settings of the whole test run."""

import sys
from pathlib import Path

import torch

# Tests run in several processes already; threads of torch in each of them would wait for each other.
torch.set_num_threads(1)

# Helpers such as `sam.models` are for the tests of other rooms, too.
sys.path.append(str(Path(__file__).parent))
