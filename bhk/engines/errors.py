"""Errors of long work in shards."""

from bhk.base.errors import BhkError


class WorkerError(BhkError):
    """A worker failed or ended early."""


class ClusterError(BhkError):
    """A cluster cannot be reached, has other versions, or lacks what is asked of it."""


class MissingResultsError(BhkError):
    """Results that were to be merged have not been computed yet."""
