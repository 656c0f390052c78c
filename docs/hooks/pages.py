"""Makes pages of files that lie outside of docs/, those that mkdocs.yml lists under `extra: pages_from`.

The Markdown files are written for where the repository is browsed. Here

- a link to a page or picture of the site leads there; one to another file of the repository, such as a
  source, becomes its text. What leads nowhere is left as it is, and `mkdocs build --strict` fails;
- lists are changed to what Python-Markdown takes for such: a blank line before them, four blanks before code in them.
"""

import pathlib
import posixpath
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent.parent
_LINK = re.compile(r"(!?)\[([^\[\]]+)\]\(([^()#:\s]+)(#[^()\s]*)?\)")
_CODE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_LIST_IN_TEXT = re.compile(r"^((?!- |\d+\. )[^\s|#`].*\n)(?=- |1\. )", re.MULTILINE)


def on_files(files, config):
    """Adds the pages."""
    for uri, source in config.extra["pages_from"].items():
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
    """Applies a function to all but the blocks of code; those in lists are moved to the right."""
    parts, end = [], 0
    for match in _CODE.finditer(markdown):
        missing = " " * ((4 - len(match[1])) if match[1] else 0)
        parts += [adapt(markdown[end : match.start()]), re.sub(r"^(?=.)", missing, match[0], flags=re.MULTILINE)]
        end = match.end()
    return "".join([*parts, adapt(markdown[end:])])
