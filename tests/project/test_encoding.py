"""Every text file that the sources read or write is UTF-8, whatever the locale: each place that opens one says so."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = sorted(
    path
    for pattern in ("learned_optim/**/*.py", "meta_train/**/*.py", "benchmarks/*.py", "notebooks/build.py")
    for path in ROOT.glob(pattern)
)
_COMPRESSED = (("gzip", "open"), ("bz2", "open"), ("lzma", "open"))  # bytes, unless they are told otherwise
_OF_BYTES = (("os", "open"), ("zipfile", "open"), ("tarfile", "open"), ("Image", "open"))


def _without_encoding(source):
    """Lines of calls that open a text, a file or that of another process, in the encoding of the locale."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if _opens_text(call) and not any(k.arg == "encoding" for k in call.keywords)]


def _opens_text(call):
    owner, name = _name(call.func)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if name == "read_text":
        return bool(owner) and not call.args  # functions of that name take a path
    if name == "write_text":
        return len(call.args) < 2
    if name in ("run", "Popen", "check_output"):
        return bool({"text", "universal_newlines"} & set(keywords))
    if name not in ("open", "fdopen", "TemporaryFile", "NamedTemporaryFile") or (owner, name) in _OF_BYTES:
        return False
    place = 1 if (owner, name) in (("", "open"), ("io", "open"), ("os", "fdopen"), *_COMPRESSED) else 0
    mode = keywords.get("mode") or (call.args[place] if len(call.args) > place else None)
    if mode is None:
        return name in ("open", "fdopen") and (owner, name) not in _COMPRESSED
    if not isinstance(mode, ast.Constant):
        return True
    return "t" in mode.value if (owner, name) in _COMPRESSED else "b" not in mode.value


def _name(function):
    """The function's name, and the name of what it belongs to: "" for none, "?" for what has no name."""
    if isinstance(function, ast.Attribute):
        return (function.value.id if isinstance(function.value, ast.Name) else "?"), function.attr
    return "", getattr(function, "id", "?")


def test_no_text_is_in_the_encoding_of_the_locale():
    found = {str(path.relative_to(ROOT)): _without_encoding(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert len(found) > 100
    assert {name: lines for name, lines in found.items() if lines} == {}, "add encoding='utf-8'"


def test_the_check_itself():
    bad = """
    path.read_text()
    path.read_text(errors="replace")
    path.write_text(text)
    path.open()
    (folder / "name").open("a")
    open(path)
    open(path, "w")
    open(path, mode=mode)
    os.fdopen(descriptor, "w")
    gzip.open(path, "rt")
    tempfile.NamedTemporaryFile("w", dir=folder)
    subprocess.run(command, text=True)
    subprocess.Popen(command, text=True)
    """
    good = """
    path.read_text("utf-8")
    path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    path.write_text(text, "utf-8")
    path.open("rb")
    open(path, "wb")
    open(path, "w", encoding="utf-8")
    gzip.open(path)
    gzip.open(path, "rb")
    data_formats.read_text(path)
    tempfile.NamedTemporaryFile(dir=folder)
    safetensors.safe_open(path)
    os.open(path, os.O_WRONLY)
    subprocess.run(command)
    subprocess.run(command, text=True, encoding="utf-8")
    """
    for lines, expected in ((bad, True), (good, False)):
        for line in map(str.strip, lines.strip().splitlines()):
            assert bool(_without_encoding(line)) == expected, line
