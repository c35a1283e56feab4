"""The Hugging Face Hub: addresses, downloads, ranges of remote files, uploads, and errors."""
