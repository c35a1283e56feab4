"""The codec: pure mathematics on tensors, which knows neither files nor models."""
