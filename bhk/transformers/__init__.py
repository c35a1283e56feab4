"""`import bhk.transformers`: .bhk repositories load with `from_pretrained` of transformers, as models with `HyperLinear` layers."""
