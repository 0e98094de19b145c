"""Foreign text, made fit for a terminal: labels, prompts, messages and file names may hold anything.

Control characters (also C1, and those that turn the direction of text) could recolour, move or erase what is read.
"""

from __future__ import annotations

LONGEST = 4096


def one_line(text: object) -> str:
    """Printable characters only, on one line."""
    return _printable(str(text)[:LONGEST]).strip()


def lines(text: object) -> str:
    """The same, but lines and their indentation stay: for texts that may have several."""
    return "\n".join(_printable(line).rstrip() for line in str(text)[:LONGEST].split("\n"))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
