"""Addresses of indexes in Milvus, and how strings are written for Milvus."""

import pathlib
import re
import typing
import urllib.parse

from dah_tf.errors import UserError

PREFIX = "milvus:"

_HOSTILE = re.compile('[\x00-\x1f"%\\\\\x7f-\x9f\u2028\u2029\ud800-\udfff]')
_ESCAPED = re.compile("(?:%[0-9A-F]{2})+")


class Location(typing.NamedTuple):
    """The location of a collection.

    Attributes:
        path: str, the address as the user wrote it.
        uri: str, `http://host:port`, or the path of the file of Milvus Lite.
        database: str, or "" for the default database.
        collection: str.
        lite: bool, whether the uri is a file.
    """

    path: str
    uri: str
    database: str
    collection: str
    lite: bool


def is_milvus(path):
    """Says whether a path is the address of a collection: `milvus:LOCATION/COLLECTION`."""
    return str(path).startswith(PREFIX)


def parse(path):
    """Reads the address of a collection.

    Args:
        path: str, `milvus:FOLDER/FILE.db/COLLECTION` for Milvus Lite, or
            `milvus:http://HOST:PORT/COLLECTION` for a server. The latter may also have `https` or
            `/DATABASE/COLLECTION`.

    Returns:
        `Location`.

    Raises:
        UserError: the path is not such an address.
    """
    path = str(path)
    rest = path.removeprefix(PREFIX)
    remote = re.match("https?://", rest)
    uri, _, collection = rest.rpartition("/")
    database = ""
    if remote:
        url = urllib.parse.urlsplit(rest)
        if url.username or url.password:
            # Messages show the path, and logs contain it.
            raise UserError(
                "a Milvus address cannot contain a user or a password; set "
                "MILVUS_TOKEN=USER:PASSWORD instead"
            )
        parts = [part for part in url.path.split("/") if part]
        if not url.hostname or not 1 <= len(parts) <= 2 or url.query or url.fragment:
            parts = [""]
        *databases, collection = parts
        uri, database = f"{url.scheme}://{url.netloc}", "".join(databases)
    elif not re.fullmatch(r"[A-Za-z0-9._-]{1,33}\.db", pathlib.PurePath(uri).name):
        collection = ""
    if not is_milvus(path) or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]{0,199}", collection):
        raise UserError(
            "write a Milvus index as milvus:http://HOST:19530/COLLECTION, or as "
            "milvus:FILE.db/COLLECTION for Milvus Lite; a collection's name has only letters, "
            f"digits and _. Received: {path}"
        )
    return Location(path, uri, database, collection, not remote)


def escaped(text):
    """Escapes quotes, backslashes, control characters, `%`, and bytes that are not UTF-8.

    Each byte of them becomes `%` and two hexadecimal digits, as in a URL. Such a string means the
    same in the filter expressions of every version, and cannot end an expression early. The
    escaped form of a prefix is a prefix of the escaped string.
    """
    return _HOSTILE.sub(
        lambda found: "".join(
            f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogateescape")
        ),
        text,
    )


def unescaped(text):
    """Undoes `escaped`."""
    return _ESCAPED.sub(
        lambda found: bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "surrogateescape"),
        text,
    )


def equal(field, text):
    """Returns the filter expression for a field that is equal to a string."""
    return f'{field} == "{escaped(text)}"'


def begins(field, prefix):
    """Returns the filter expression for a field that starts with a string.

    The expression is a range of strings, because `like` would take `%` and `_` for patterns. For
    an empty string it is "".
    """
    low = escaped(prefix)
    # The range ends before the first string without this prefix, whose last character is the next
    # one, if there is a next one.
    high = low.rstrip(chr(0x10FFFF))
    parts = [f'{field} >= "{low}"'] if low else []
    if high:
        code = ord(high[-1]) + 1
        # Surrogates are not characters, and no escaped string has a hostile one. Both are skipped.
        while _HOSTILE.match(chr(code)):
            code += 1
        parts.append(f'{field} < "{high[:-1]}{chr(code)}"')
    return " and ".join(parts)
