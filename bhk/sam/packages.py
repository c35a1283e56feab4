"""The packages that models of the family come from, and how to install them. Imports neither torch nor any of them."""

from __future__ import annotations

from bhk.base.packages import Package

SEGMENT_ANYTHING = Package("segment_anything", "run: pip install segment-anything torchvision")
SEGMENT_ANYTHING_HQ = Package("segment_anything_hq", "run: pip install segment-anything-hq timm torchvision")
SAM2 = Package("sam2", "run: pip install sam2")
TRANSFORMERS = Package("transformers", 'run: pip install "transformers>=5.10.1"')
MOBILE_SAM = Package("mobile_sam", "run: pip install timm git+https://github.com/ChaoningZhang/MobileSAM.git")
MOBILE_SAM_V2 = Package(
    "mobilesamv2", "clone https://github.com/ChaoningZhang/MobileSAM and add its folder MobileSAMv2 to PYTHONPATH"
)
EDGE_SAM = Package("edge_sam", "clone https://github.com/chongzhou96/EdgeSAM and install it by its README")
EFFICIENT_SAM = Package("efficient_sam", "run: pip install git+https://github.com/yformer/EfficientSAM.git")
TINY_SAM = Package("tinysam", "clone https://github.com/xinghaochen/TinySAM and add its folder to PYTHONPATH")
