"""The Segment Anything family: recognising its checkpoints."""
