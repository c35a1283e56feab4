"""Nodes for ComfyUI: Segment Anything models from .bhk files."""

from .nodes import LoadSam, LoadSamFromHub, SegmentWithSam

NODE_CLASS_MAPPINGS = {
    "BhkLoadSam": LoadSam,
    "BhkLoadSamFromHub": LoadSamFromHub,
    "BhkSegmentWithSam": SegmentWithSam,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "BhkLoadSam": "Load SAM (.bhk)",
    "BhkLoadSamFromHub": "Load SAM from the Hub (.bhk)",
    "BhkSegmentWithSam": "Segment with SAM (points, boxes)",
}
