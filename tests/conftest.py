"""Settings of the whole test run."""

import torch

# Tests run in several processes already; threads of torch in each of them would wait for each other.
torch.set_num_threads(1)
