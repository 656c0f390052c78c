"""Makes of this library's docstrings what mkdocstrings reads: a Griffe extension, named in mkdocs.yml.

Docstrings keep what suits a reader of the source. Here

- equations (`.. math::`, and `math` roles) become those of `pymdownx.arithmatex`;
- `Fields:` becomes `Attributes:`; a NamedTuple without it gets one of the comments behind or above its fields;
- `Example: …` becomes a section of doctests, and the references a list;
- names with their meanings that stand indented in a text become a list.
"""

import re

import griffe

_EQUATION = re.compile(r"^( *)\.\. math::(.*\n?(?:\1 +\S.*\n?)*)", re.MULTILINE)
_INLINE_EQUATION = re.compile(r":math:`([^`]*)`")
_EXAMPLE = re.compile(r"^Example:(.*(?:\n(?! *>>>).+)*)$", re.MULTILINE)
_REFERENCES = re.compile(r"^References:\n(?:  .*\n?)+", re.MULTILINE)
_SECTION = re.compile(r"(Args|Attributes|Examples|Raises|References|Returns):")
_TERM = re.compile(r"( *)([\w, ]+): (.*)")


class Docstrings(griffe.Extension):
    """Translates the docstring of every object that is read."""

    def on_instance(self, *, obj, **kwargs):
        """Called for every object before its members are read."""
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = translated(obj.docstring.value)

    def on_class_members(self, *, cls, **kwargs):
        """Called when the members of a class were read."""
        del kwargs
        if cls.docstring is None or "Attributes:" in cls.docstring.value:
            return
        fields = {name: member for name, member in cls.members.items() if member.is_attribute}
        comments = {name: _comment(cls.lines, member.lineno - cls.lineno) for name, member in fields.items()}
        lines = [f"  {name}: {comment}" for name, comment in comments.items() if comment]
        if lines:
            cls.docstring.value += "\n\nAttributes:\n" + "\n".join(lines)


def translated(text: str) -> str:
    """A docstring in Google's style and Markdown."""
    text = _EQUATION.sub(lambda match: f"{match[1]}\\[ {' '.join(match[2].split())} \\]\n", text)
    text = _INLINE_EQUATION.sub(r"\\(\1\\)", text)
    text = re.sub(r"^Fields:$", "Attributes:", text, flags=re.MULTILINE)
    text = _EXAMPLE.sub(_example, text)
    text = _REFERENCES.sub(lambda match: re.sub(r"^  (?=\S)", "  - ", match[0], flags=re.MULTILINE), text)
    return "\n".join(_with_lists(text.split("\n")))


def _comment(lines, i):
    """The comment at the end of a line, or the one in the lines above it."""
    _, _, comment = lines[i].partition("  # ")
    above = []
    while lines[i - 1].strip().startswith("# "):
        i -= 1
        above.insert(0, lines[i].strip().removeprefix("# "))
    return comment or " ".join(above)


def _example(match):
    title = " ".join(match[1].split())
    return "Examples: Example" + (f"\n  {title[0].upper()}{title[1:]}\n" if title else "")


def _with_lists(lines):
    """Makes a list of the indented terms below a line that ends with a colon and heads no section."""
    indent = None  # of the terms that are being read
    before = ""
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if indent is not None and line and depth < indent:
            indent = None
            yield ""
        term = _TERM.fullmatch(line)
        headed = before.endswith(":") and not _SECTION.fullmatch(before) and len(before) - len(before.lstrip()) < depth
        if indent is None and term and headed:
            indent = depth
            yield ""
        before = line
        if indent is None or not line:
            yield line
        elif term and depth == indent:
            yield f"{' ' * (indent - 2)}- `{term[2]}`: {term[3]}"
        else:
            yield f"  {line}"
