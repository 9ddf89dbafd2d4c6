"""The digest that a task's records end in: made as they are written, and made again of the lines that were read.

It is the SHA-256 over the SHA-256 digests of the lines, without line ends, in the order of `seq`; the closing line
counts as it stands without it.
"""

import re
from hashlib import sha256

ALGORITHM = "sha256:"
SIZE = sha256().digest_size
FORM = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
"""How a person may write one."""
_UNSET = b'"records_digest":null'
_SET = re.compile(rb'"records_digest":"sha256:[0-9a-f]{64}"')
"""In a text its quotes would be escaped, so that no message can look like the field."""


def of_line(line: bytes) -> bytes:
    """The digest of one line without its end."""
    return sha256(line).digest()


def in_words(digest: bytes) -> str:
    """A digest as a record holds it."""
    return ALGORITHM + digest.hex()


def with_digest(closing: bytes, digest: str) -> bytes:
    """The closing line with its digest set."""
    before, _, behind = closing.rpartition(_UNSET)
    return b'%b"records_digest":"%b"%b' % (before, digest.encode(), behind)


def without_digest(closing: bytes) -> bytes:
    """The closing line as its digest was made of it."""
    return _SET.sub(_UNSET, closing)
