"""API keys: a file of their SHA-256 digests, and their comparison in constant time.

Each line of the file has a role (`read` or `write`), the digest of a key in hexadecimal, and
optionally a name for the log. A line that starts with `#` is a comment. Keys must be random, such
as those of `openssl rand -hex 32`, because the digest of a short key can be guessed.
"""

import dataclasses
import hashlib
import hmac
import os
import re
import stat

from dah_tf.errors import UserError

ROLES = ("read", "write")


@dataclasses.dataclass(frozen=True)
class Key:
    """A known key.

    Attributes:
        role: "read", or "write", which includes reading.
        digest: the SHA-256 digest of the key, 32 bytes.
        name: the name for the log.
    """

    role: str
    digest: bytes
    name: str


class Keys:
    """The keys of a file.

    Args:
        path: path of the file.

    Raises:
        UserError: the file cannot be read, everybody may change it, a line is wrong, or there is
            no key.
    """

    def __init__(self, path):
        try:
            with open(path, encoding="utf-8") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                lines = file.read().splitlines()
        except OSError as error:
            raise UserError(f"cannot read api_key_file={path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UserError(f"api_key_file={path} is not a text file") from None
        if mode & 0o002:
            raise UserError(
                f"api_key_file={path} can be changed by everybody; run chmod o-w {path}"
            )
        self._keys = []
        for number, line in enumerate(lines, 1):
            words = line.split(maxsplit=2)
            if not words or words[0].startswith("#"):
                continue
            if (
                len(words) < 2
                or words[0] not in ROLES
                or not re.fullmatch(r"[0-9a-f]{64}", words[1])
            ):
                raise UserError(
                    f"line {number} of api_key_file={path} must be a role (read or write), the "
                    "SHA-256 digest of a key, and optionally a name"
                )
            name = words[2] if len(words) > 2 else f"line {number}"
            self._keys.append(Key(words[0], bytes.fromhex(words[1]), name))
        if not self._keys:
            raise UserError(f"api_key_file={path} has no key")

    def find(self, token: str) -> Key | None:
        """Returns the known key that equals a presented one, or None.

        Every known key is compared in full, so that the time says nothing about them.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found
