"""Segment Anything models as graphs of ONNX operators.

- `parts`: encoder and decoder, with the inputs and outputs that other programs expect
- `trace`: from a part to its graph, without weights
- `weights`: how a graph holds a weight, as integers of its lattice or as floats
- `onnx_model`: all of it together, as the content of files
"""
