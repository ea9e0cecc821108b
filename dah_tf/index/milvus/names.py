"""How an index in Milvus is named, and how strings are written for Milvus."""

import pathlib
import re
import typing
import urllib.parse

from dah_tf.errors import UserError

PREFIX = "milvus:"

_HOSTILE = re.compile('[\x00-\x1f"%\\\\\x7f-\x9f\u2028\u2029\ud800-\udfff]')
_ESCAPED = re.compile("(?:%[0-9A-F]{2})+")


class Location(typing.NamedTuple):
    """Where a collection is.

    Attributes:
        path: str, as the user wrote it.
        uri: str, `http://host:port`, or the path of Milvus Lite's file.
        database: str, "" for the default one.
        collection: str.
        lite: bool, whether the uri is a file.
    """

    path: str
    uri: str
    database: str
    collection: str
    lite: bool


def is_milvus(path):
    """Whether a path names a collection of Milvus: `milvus:LOCATION/COLLECTION`."""
    return str(path).startswith(PREFIX)


def parse(path):
    """The `Location` that a path names.

    Args:
        path: str, `milvus:FOLDER/FILE.db/COLLECTION` for Milvus Lite, or
            `milvus:http://HOST:PORT/COLLECTION` for a server, with `https` or with
            `/DATABASE/COLLECTION` likewise.

    Returns:
        `Location`.

    Raises:
        UserError: it names none.
    """
    path = str(path)
    rest = path.removeprefix(PREFIX)
    remote = re.match("https?://", rest)
    uri, _, collection = rest.rpartition("/")
    database = ""
    if remote:
        url = urllib.parse.urlsplit(rest)
        if url.username or url.password:
            # The path is shown in messages and kept in logs.
            raise UserError(
                "a Milvus address holds no user and no password; set MILVUS_TOKEN=USER:PASSWORD"
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
            "a Milvus index is milvus:http://HOST:19530/COLLECTION, or milvus:FILE.db/COLLECTION "
            f"for Milvus Lite; names are letters, digits and _. Received: {path}"
        )
    return Location(path, uri, database, collection, not remote)


def escaped(text):
    """A string without quotes, backslashes, control characters and bytes that are not UTF-8.

    Each becomes `%` and two hexadecimal digits a byte, as in a URL, `%` too: the strings are the
    same in every version's filter expressions, none ends one early, and a prefix of a string is
    escaped to a prefix of it.
    """
    return _HOSTILE.sub(
        lambda found: "".join(
            f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogateescape")
        ),
        text,
    )


def unescaped(text):
    """Inverse of `escaped`."""
    return _ESCAPED.sub(
        lambda found: bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "surrogateescape"),
        text,
    )


def equal(field, text):
    """Filter expression: a field holds a string."""
    return f'{field} == "{escaped(text)}"'


def begins(field, prefix):
    """Filter expression: a field begins with a string; "" for an empty one, which all do.

    A range of strings: `like` would take `%` and `_` for patterns.
    """
    low = escaped(prefix)
    # The next string that does not begin so: the last character one up, if there is one up.
    high = low.rstrip(chr(0x10FFFF))
    parts = [f'{field} >= "{low}"'] if low else []
    if high:
        code = ord(high[-1]) + 1
        # Surrogates are no characters, and no string holds a hostile one: on to the next.
        while _HOSTILE.match(chr(code)):
            code += 1
        parts.append(f'{field} < "{high[:-1]}{chr(code)}"')
    return " and ".join(parts)
