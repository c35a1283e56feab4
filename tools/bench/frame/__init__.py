"""The frame of all benchmarks: command line, timing, memory, processes of their own, result files, plots."""
