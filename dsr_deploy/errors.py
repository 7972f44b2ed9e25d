"""The error that a user's mistake ends in."""

from __future__ import annotations


class UserError(Exception):
    """Something a user can put right; its text is one line that says how."""
