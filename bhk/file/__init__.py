"""An open .bhk file as tensors."""
