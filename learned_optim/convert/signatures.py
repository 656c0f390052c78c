"""Tells what else people have under the names of weights: web pages, archives, pickles, pointers of git-lfs."""

_SIGNATURES = {
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"PK\x03\x04": "a zip archive, such as a PyTorch or .npz file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a .npy file",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"version https://git-lfs": "a pointer of git-lfs, not the file itself: fetch it with `git lfs pull`",
    b"<": "a web page: download the raw file",
}


def check(data: bytes, expected: str) -> None:
    """Raises ValueError if a file is empty, or of a known format that holds no weights.

    Args:
      data: the first bytes of a file, at least 32 of them if it has so many.
      expected: the beginning of the error message, such as "expected a safetensors file".

    Example:
      >>> check(b"<!doctype html>", "expected a safetensors file")
      Traceback (most recent call last):
      ValueError: expected a safetensors file, got a web page: download the raw file.
    """
    if not data:
        raise ValueError(f"{expected}, got an empty file: download it again, as a binary file.")
    for signature, what in _SIGNATURES.items():
        if data.startswith(signature):
            hint = " Pickles can run any code, so they are never read." if what == "a pickle" else ""
            raise ValueError(f"{expected}, got {what}.{hint}")
