"""What is told of a compressed model: pages and figures."""
