"""The ground floor: errors, files, hashes, JSON, threads, texts. It knows nothing about codes, checkpoints or models."""
