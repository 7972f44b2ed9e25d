"""The error for a user's mistake."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can correct; the message is one line and tells how."""
