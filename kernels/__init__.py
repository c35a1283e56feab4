"""Products with weights held as codes, `bhk::decode` and `bhk::hyper_linear`, with their Triton kernels; and attention.

- `resident`: how a coded weight is held in memory, and the identity that turns its product into one of small integers
- `operators`: schemas, registrations, gradients
- `reference`: the operators in plain torch, for every device; `onednn`: products on a CPU
- `dispatch`: which Triton kernel serves a call on a GPU
- `few_rows`, Triton: the product for few rows of activations
- `integer`, Triton: quantised activations times codes
- `dense`, Triton: decoding codes to a dense weight, for many rows
- `lattice`: what `few_rows` and `integer` share
- `launching`: launching kernels with little work on the host; `sizes`: arithmetic for launches
- `tuning`: the tile sizes of each product, as measured on the GPU; `gpu`: the properties of the GPU
- `processor`: which way to multiply is faster on a CPU, as measured; `kept`: where measurements are kept
- `attention`: attention with relative positions, in plain torch
"""
