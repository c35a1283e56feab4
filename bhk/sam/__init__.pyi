from bhk.sam.attention.fuse import fuse_attention as fuse_attention
from bhk.sam.registry import build_sam2 as build_sam2
from bhk.sam.registry import build_sam2_video_predictor as build_sam2_video_predictor
from bhk.sam.registry import sam_hq_model_registry as sam_hq_model_registry
from bhk.sam.registry import sam_model_registry as sam_model_registry
