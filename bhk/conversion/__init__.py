"""A checkpoint to a .bhk file, in three steps: prepare, plan, and write or estimate."""
