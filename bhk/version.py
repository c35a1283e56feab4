"""The version of bhk, for package metadata and for the files it writes."""

__version__ = "0.1.0"
