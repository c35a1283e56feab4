"""Speaking with the Hugging Face Hub: addresses, downloads, ranges of remote files, uploads, and what can go wrong."""
