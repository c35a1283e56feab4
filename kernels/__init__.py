"""Products with weights held as codes: the operators `bhk::decode` and `bhk::hyper_linear`, and their Triton kernels.

    resident.py     how a coded weight is held in memory, and the two classes of it
    reference.py    the operators in plain torch, for every device
    few_rows.py     Triton: the product for a few rows of activations
    dense.py        Triton: codes to a dense weight, for many rows
    integer.py      Triton: quantised activations times codes
    operators.py    schemas, registrations, gradients, and which kernel serves which call
"""
