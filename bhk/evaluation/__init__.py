"""How good a compressed model is: the same questions to two models, and their answers compared."""
