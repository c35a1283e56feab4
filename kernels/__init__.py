"""Products with weights held as codes: the operators `bhk::decode` and `bhk::hyper_linear`, and their Triton kernels.

- `resident`: how a coded weight is held in memory, and the two classes of it
- `operators`: schemas, registrations, gradients
- `reference`: the operators in plain torch, for every device; `int8_cpu`: products of bytes on a CPU
- `dispatch`: which Triton kernel serves which call on a card
- `few_rows`, Triton: the product for few rows of activations
- `integer`, Triton: quantised activations times codes
- `dense`, Triton: codes to a dense weight, for many rows
- `decoding`, `lattice`: what the Triton kernels share
- `launching`: launches of them with little work on the host
- `tuning`: how a product is cut into tiles, as measured on the card; `card`: what that has to know of it; `sizes`: arithmetic
"""
