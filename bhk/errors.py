"""The root of every error that bhk raises on purpose."""


class BhkError(Exception):
    """Base of all bhk errors: the message says what was found, what was expected and what to do."""
