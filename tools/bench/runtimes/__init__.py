"""Ways to run a SAM, or its image encoder, on a CPU: bhk, the model's own package, and other people's runtimes."""
