"""Attention modules that take the place of those of the family's packages, and need no matrix of scores.

- `fuse`: finding and replacing the packages' modules
- `relative`: relative positions, of SAM's image encoder
- `biased`: a learned bias for each offset in a window, of TinyViT
- `plain`: attention without either, of mask decoders and EfficientSAM
"""
