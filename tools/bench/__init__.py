"""Benchmarks; their results go to `tools/bench/results/`."""
