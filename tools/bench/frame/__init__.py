"""What all benchmarks share: timing, memory, fresh processes, result files, plots."""
