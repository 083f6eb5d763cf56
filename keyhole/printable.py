"""Text for a terminal or a log: on one line, without characters that do more than stand there.

Names of columns, values of cells and texts of a model come from strangers. Raw, an escape
sequence in them moves the cursor or sets the window's title, a newline forges a line of a log,
and a bidirectional mark shows other text than is there. All text goes through `printable`.
"""

import json
import unicodedata

JOINERS = "\u200c\u200d"  # hold letters and emoji together


def printable(text: object) -> str:
    """The text with control, format and bidirectional characters escaped, as Python's repr does.

    A newline becomes a backslash and an n; spaces of every width stay.
    """
    line = str(text)
    if line.isprintable():
        return line
    return "".join(c if _stands_still(c) else c.encode("unicode_escape").decode() for c in line)


def printable_json(line: str) -> str:
    """A line of JSON, of the same value, whose texts are printable: the rest is escaped as JSON.

    It is what `json.dumps(..., ensure_ascii=False)` makes, so only texts hold such characters.
    """
    if line.isprintable():
        return line
    return "".join(c if _stands_still(c) else json.dumps(c)[1:-1] for c in line)


def _stands_still(character: str) -> bool:
    return (
        character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"
    )
