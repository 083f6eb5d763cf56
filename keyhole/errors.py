"""Everything that keyhole raises.

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
they quote cannot steer a terminal: see `keyhole/printable.py`.
"""

from keyhole.printable import printable


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
