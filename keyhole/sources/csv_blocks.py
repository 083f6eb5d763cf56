"""Text in blocks of whole rows, for what Arrow cannot read by itself: pipes, and not UTF-8.

Arrow reads ahead on threads of its own. Where these call Python, for a pipe or to decode, a
reader that is given up waits for such a thread, which waits for Python: the process hangs. And a
silent pipe would keep the process from hearing a signal. So Python reads, and Arrow parses.
"""

import codecs
import io
from collections.abc import Callable, Iterator

from keyhole.errors import DataError
from keyhole.sources.csv_head import cells_of

MOST_BLOCKS = 4  # that one row may fill


def whole_rows(
    read: Callable[[int], bytes], size: int, encoding: str, delimiter: str, name: str
) -> Iterator[bytes]:
    """The text as UTF-8, cut after whole rows into blocks of about `size` bytes.

    Raises: UnicodeError, csv.Error; DataError for a row longer than `MOST_BLOCKS` blocks.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    text, ended = "", False
    while not ended:
        part = read(size)
        ended = not part
        text += decoder.decode(part, final=ended)
        end = len(text) if ended else _end_of_rows(text, delimiter)
        if end:
            yield text[:end].encode()
            text = text[end:]
        elif len(text) > MOST_BLOCKS * size:
            most = f"a row is longer than {MOST_BLOCKS * size >> 20} MB"
            raise DataError(f"{name} cannot be read as CSV: {most}; is a quote left open?")


def _end_of_rows(text: str, delimiter: str) -> int:
    """Where the last row ends that is sure to be whole; 0 where none is."""
    end = max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1  # a last \r may be half of \r\n
    if '"' not in text:
        return end
    at = before = last = 0

    def lines() -> Iterator[str]:
        nonlocal at
        for line in io.StringIO(text[:end], newline=""):
            at += len(line)
            yield line

    for _ in cells_of(lines(), delimiter):
        before, last = last, at
    return before  # the last row may be cut within a quote
