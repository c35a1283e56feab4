"""Linear layers that are measured beside HyperLinear."""
