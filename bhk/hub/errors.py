"""Errors of the Hub."""

from __future__ import annotations

from bhk.base.errors import BhkError


class HubError(BhkError):
    """The Hugging Face Hub could not provide or accept something."""


class HubFileNotFoundError(HubError):
    """The repository has no such file."""


class HubUnreachableError(HubError):
    """The Hub cannot be reached: there is no network, offline mode is on, or the Hub is down."""


class HubBusyError(HubError):
    """The Hub refused because of too many requests."""
