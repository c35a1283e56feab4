"""Pictures, prompts and masks as arrays: reading, drawing, measuring, making up. Needs no torch."""
