"""Pictures, prompts and masks as arrays: reading, drawing, measuring and generating them. Needs no torch."""
