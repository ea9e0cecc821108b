"""JSON files that say what they are: format, version, and a checksum over all of it."""

import json
import pathlib
import zlib

from dah_tf.errors import UserError


def seal(form, version, content):
    """The bytes of a file.

    Args:
        form: str, the format's name.
        version: int, the format's version.
        content: JSON-able dict.
    """
    body = {"format": form, "version": version, **content}
    body["checksum"] = _checksum(body)
    return json.dumps(body).encode()


def read(path, form, version, again):
    """The content of a sealed file.

    Args:
        path: path of the file.
        form, version: as in `seal`; a file of another version is refused.
        again: str, what to do where the content cannot be used, such as "encode again".

    Raises:
        UserError: it cannot be read, is damaged, of another program or version.
        FileNotFoundError, NotADirectoryError: there is none.
    """
    path = pathlib.Path(path)
    try:
        body = json.loads(path.read_bytes())
        name, found, stored = body["format"], body["version"], body.pop("checksum", None)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged: it is no {path.stem}; {again}") from None
    if name != form:
        raise UserError(f"{path} is of another program ({name!r}); choose another folder")
    if found != version:
        raise UserError(
            f"{path.parent} has {form.removeprefix('dah_tf ')} format {found}, this dah_tf reads "
            f"format {version}; use the dah_tf that wrote it, or {again}"
        )
    if stored != _checksum(body):
        raise UserError(f"{path} is damaged: its checksum does not fit; {again}")
    return {key: value for key, value in body.items() if key not in ("format", "version")}


def _checksum(body):
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())
