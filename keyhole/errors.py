"""Text for a terminal or a log: on one line, without characters that do more than stand there.

Names of columns, values of cells and texts of a model come from strangers. Raw, an escape
sequence in them moves the cursor or sets the window's title, a newline forges a line of a log,
and a bidirectional mark shows other text than is there. All text goes through `printable`.

Everything that keyhole raises.

    KeyholeError
    ├── DataError        (ValueError)    the rows, or a column of them
    ├── SettingError     (ValueError)    an argument or an option
    ├── BundleError      (ValueError)    a saved model that cannot be trusted or read
    ├── FileError        (OSError)       a path: absent, unreadable, in the way, full
    ├── FitError         (ArithmeticError)  training that cannot go on
    └── MissingExtraError  (ImportError)  an optional library that is not installed
    KeyholeWarning       (UserWarning)   the answer stands, but know this

Each is also the builtin that a caller expects, so `except ValueError` keeps working.
On the command line every one of them is a single line and exit code 2. Texts of the data that
they quote cannot steer a terminal: see `keyhole/errors.py`.
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


class KeyholeError(Exception):
    """A fault that the user can mend; its text says what, where, and what to do."""

    def __str__(self) -> str:
        return printable(super().__str__())


class DataError(KeyholeError, ValueError):
    """The rows, or a column of them, are not what was asked for."""


class ColumnTypeError(DataError, TypeError):
    """A cell holds something that no column can hold, such as a dictionary."""


class SettingError(KeyholeError, ValueError):
    """An argument or option has a value that cannot be used."""


class BundleError(KeyholeError, ValueError):
    """A saved model is damaged, altered, too new, or not a keyhole model."""


class FileError(KeyholeError, OSError):
    """A path is absent, unreadable, in the way, or on a full disk."""


class FitError(KeyholeError, ArithmeticError):
    """Training cannot go on; the text says what was kept."""


class MissingExtraError(KeyholeError, ImportError):
    """An optional library is not installed; the text names the extra."""


class KeyholeWarning(UserWarning):
    """The answer stands, but the reader should know this."""

    def __str__(self) -> str:
        return printable(super().__str__())
