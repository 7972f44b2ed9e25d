"""Text from files and other machines, for a terminal or a page: displayed, never obeyed."""

from __future__ import annotations

from typing import Final

LONGEST_LINE: Final = 1000


def escaped(text: str, keep: str = "\n") -> str:
    r"""Return ``text`` with an escape such as ``\x1b`` for all that is not plainly shown.

    Control characters move the cursor or write the clipboard, others reverse what is read.

    Parameters
    ----------
    keep : characters that may stay
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def one_line(text: str) -> str:
    """Return ``text`` escaped, on one line, its middle left out where it is very long."""
    line = escaped(text.strip(), keep="")
    if len(line) <= LONGEST_LINE:
        return line
    half = LONGEST_LINE // 2
    return f"{line[:half]} ... {line[-half:]}"
