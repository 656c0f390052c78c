"""Adds pages from files outside of docs/: those that mkdocs.yml lists under `extra: pages_from`.

Notebooks become pages with their stored outputs (docs/hooks/notebooks.py). The Markdown files are written for readers
of the repository, so this hook adapts them:

- A link to a page or picture of the site is redirected to it. A link to another file of the repository, such as a
  source file, becomes plain text. A broken link is left alone, so that `mkdocs build --strict` fails.
- Lists get the blank line before them, and code in lists the four spaces, that Python-Markdown needs.
"""

import pathlib
import posixpath
import re

from mkdocs.structure.files import File

import notebooks

ROOT = pathlib.Path(__file__).parent.parent.parent
_LINK = re.compile(r"(!?)\[([^\[\]]+)\]\(([^()#:\s]+)(#[^()\s]*)?\)")
_CODE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_LIST_IN_TEXT = re.compile(r"^((?!- |\d+\. )[^\s|#`].*\n)(?=- |1\. )", re.MULTILINE)


def on_files(files, config):
    """Adds the pages."""
    for uri, source in config.extra["pages_from"].items():
        if source.endswith(".ipynb"):
            text, pictures = notebooks.rendered(ROOT / source)
            files.append(File.generated(config, uri, content=text))
            for name, content in pictures.items():
                files.append(File.generated(config, posixpath.join(posixpath.dirname(uri), name), content=content))
        else:
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Adapts the text of a page."""
    sources = {**{file.src_uri: f"docs/{file.src_uri}" for file in files}, **config.extra["pages_from"]}
    uris = {source: uri for uri, source in sources.items()}
    uri = page.file.src_uri

    def lead(match):
        image, text, link, anchor = match.groups()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(sources[uri]), link))
        if target in uris:
            return f"{image}[{text}]({posixpath.relpath(uris[target], posixpath.dirname(uri))}{anchor or ''})"
        return text if (ROOT / target).exists() else match[0]

    def adapt(text):
        return _LIST_IN_TEXT.sub(r"\1\n", _LINK.sub(lead, text))

    return _outside_of_code(adapt, markdown)


def _outside_of_code(adapt, markdown):
    """Applies a function to everything but code blocks, and indents code blocks in lists."""
    parts, end = [], 0
    for match in _CODE.finditer(markdown):
        missing = " " * ((4 - len(match[1])) if match[1] else 0)
        parts += [adapt(markdown[end : match.start()]), re.sub(r"^(?=.)", missing, match[0], flags=re.MULTILINE)]
        end = match.end()
    return "".join([*parts, adapt(markdown[end:])])
