"""Measuring compressed models: how closely their masks match those of the original, or annotated objects."""
