"""Segment Anything models as ONNX files.

- `graphs`: what the files compute: image encoders and mask decoders with the inputs and outputs that other programs expect
- `tracing`: from a module to a graph of ONNX operators, without weights
- `weights`: how the graph holds a weight, as integers of its lattice or as floats
"""
