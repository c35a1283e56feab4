"""Weight coders: a checkpoint file in, one compressed file out, and the state dict back."""
