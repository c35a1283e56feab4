"""Benchmarks: `python -m tools.bench` lists them, and `python -m tools.bench NAME` writes a CSV file into `results/`.

Each module of this folder is a benchmark: what it measures, its columns, and how one case is measured. The rest is shared:

    frame/    command line, timing, memory, fresh processes, result files, plots
    coders/   weight coders: a checkpoint file in, one compressed file out, and the tensors back
    layers/   linear layers that run beside HyperLinear
    models/   the models that are compressed or run, and how their answers are compared
"""
