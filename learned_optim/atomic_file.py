"""Writes a file in one step, so that nobody reads a half, and several writers do not disturb each other."""

import errno
import os
import pathlib
import secrets


def write(path: pathlib.Path, content: bytes) -> None:
    """Replaces a file, or makes it and its folder. Of several writers at once, the last one's content stays, complete.

    Args:
      path: the file.
      content: what it is to contain.

    Raises:
      OSError: if it cannot be written there. The file is then as it was.

    Example:
      >>> import tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "new" / "a.txt"
      >>> write(path, b"text")
      >>> path.read_bytes(), len(list(path.parent.iterdir()))
      (b'text', 1)
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # as a file, which "File exists" would not say
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from error
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")  # of this call alone
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
