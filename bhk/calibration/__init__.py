"""What a model is shown before it is coded, so that the error goes where the network does not feel it."""
