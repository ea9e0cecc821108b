"""JSON files with a format name, a version, and a checksum of all content."""

import json
import pathlib
import zlib

from dah_tf.errors import UserError


def seal(form, version, content):
    """Returns the bytes of a sealed file.

    Args:
        form: str, the name of the format.
        version: int, the version of the format.
        content: dict that JSON can hold.
    """
    body = {"format": form, "version": version, **content}
    body["checksum"] = _checksum(body)
    return json.dumps(body).encode()


def read(path, form, version, again):
    """Returns the content of a sealed file.

    Args:
        path: path of the file.
        form, version: as in `seal`; a file of another version is refused.
        again: str, the advice for a file that cannot be used, such as "encode again".

    Raises:
        UserError: the file cannot be read, is damaged, or has another format or version.
        FileNotFoundError, NotADirectoryError: there is no such file.
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
        raise UserError(f"{path} is damaged: it is not a valid {path.stem}; {again}") from None
    if name != form:
        raise UserError(f"{path} belongs to another program ({name!r}); choose another folder")
    if found != version:
        raise UserError(
            f"{path.parent} has version {found} of the {form.removeprefix('dah_tf ')} format, but "
            f"this dah_tf reads version {version}; use the dah_tf that wrote it, or {again}"
        )
    if stored != _checksum(body):
        raise UserError(f"{path} is damaged: its checksum does not match; {again}")
    return {key: value for key, value in body.items() if key not in ("format", "version")}


def _checksum(body):
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())
