"""The ground floor: errors, files, hashes, JSON, threads, texts. Knows nothing of codes, files of weights, or models."""
