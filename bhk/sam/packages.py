"""The packages that models of the family come from, and how to install them. Imports neither torch nor any of them."""

from __future__ import annotations

from bhk.base.packages import Package

SEGMENT_ANYTHING = Package("segment_anything", "run: pip install segment-anything torchvision")
SEGMENT_ANYTHING_HQ = Package("segment_anything_hq", "run: pip install segment-anything-hq timm torchvision")
SAM2 = Package("sam2", "run: pip install sam2")
HQ_SAM2 = Package(
    "sam2",
    "clone https://github.com/SysCV/sam-hq and install its folder sam-hq2, in place of sam2",
    "modeling/sam2_hq_base.py",
)
EDGE_TAM = Package(
    "sam2",
    "clone https://github.com/facebookresearch/EdgeTAM and install it, in place of sam2; it needs timm",
    "modeling/perceiver.py",
)
EFFICIENT_TAM = Package("efficient_track_anything", "run: pip install git+https://github.com/yformer/EfficientTAM.git")
SAM3 = Package("sam3", "run: pip install sam3 scikit-image")
SAM3_MULTIPLEX = Package(
    "sam3",
    "run: pip install git+https://github.com/facebookresearch/sam3.git, which has SAM 3.1 besides; or load the file into a "
    'predictor of your own, with these lines: predictor = build_sam3_multiplex_video_predictor("sam3.1_multiplex.pt"); '
    'bhk.load_into(predictor.model, "FILE.bhk")',
    "model/video_tracking_multiplex.py",
)
TRANSFORMERS = Package("transformers", 'run: pip install "transformers>=5.20"')
MOBILE_SAM = Package("mobile_sam", "run: pip install timm git+https://github.com/ChaoningZhang/MobileSAM.git")
MOBILE_SAM_V2 = Package(
    "mobilesamv2", "clone https://github.com/ChaoningZhang/MobileSAM and add its folder MobileSAMv2 to PYTHONPATH"
)
EDGE_SAM = Package("edge_sam", "clone https://github.com/chongzhou96/EdgeSAM and install it by its README")
EFFICIENT_SAM = Package("efficient_sam", "run: pip install git+https://github.com/yformer/EfficientSAM.git")
TINY_SAM = Package("tinysam", "clone https://github.com/xinghaochen/TinySAM and add its folder to PYTHONPATH")
REP_VIT_SAM = Package("repvit_sam", "clone https://github.com/THU-MIG/RepViT and add its folder sam to PYTHONPATH")
ROBUST_SAM = Package(
    "robust_segment_anything", "clone https://github.com/robustsam/RobustSAM and add its folder to PYTHONPATH"
)
EFFICIENT_VIT = Package("efficientvit", "clone https://github.com/mit-han-lab/efficientvit and install it")
SCIPY = Package("scipy", "run: pip install scipy")  # scales pictures as MedSAM's script does
SAM_MED_2D = Package(
    "segment_anything",
    "clone https://github.com/OpenGVLab/SAM-Med2D and put its folder first on PYTHONPATH",
    "modeling/sam_model.py",
)
LITE_MED_SAM = Package(
    "tiny_vit_sam",
    "clone https://github.com/bowang-lab/MedSAM, switch to its branch LiteMedSAM, and put its folder first on PYTHONPATH",
)
