"""Benchmarks: `python -m tools.bench.minilm`, `.conversion`, `.plot`; results go to `tools/bench/results/`."""
