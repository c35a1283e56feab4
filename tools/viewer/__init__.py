"""The page in docs/viewer/ that reads `.bhk` files in a browser."""
