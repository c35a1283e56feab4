"""The models that benchmarks compress or run, and how their answers are compared."""
