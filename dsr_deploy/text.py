"""Escape text from files and other machines, so that a terminal shows it and never obeys it."""

from __future__ import annotations

from typing import Final

LONGEST_LINE: Final = 1000


def escaped(text: str, keep: str = "\n") -> str:
    r"""Return ``text`` with an escape such as ``\x1b`` for every character that is not printable.

    Control characters can move the cursor or write the clipboard, others reverse the text.

    Parameters
    ----------
    keep : characters to leave as they are
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def one_line(text: str) -> str:
    """Return ``text`` escaped and on one line; a very long text is shortened in its middle."""
    line = escaped(text.strip(), keep="")
    if len(line) <= LONGEST_LINE:
        return line
    half = LONGEST_LINE // 2
    return f"{line[:half]} ... {line[-half:]}"
