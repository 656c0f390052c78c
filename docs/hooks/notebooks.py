"""Turns an executed notebook into a Markdown page and its pictures, for docs/hooks/pages.py.

The site shows what is stored in the `.ipynb`: nothing is run, and no other package is needed.
"""

import base64
import json
import pathlib


def rendered(path: pathlib.Path) -> tuple[str, dict[str, bytes]]:
    """The page of a notebook as Markdown, and the PNG files that it shows, by name."""
    blocks: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            blocks.append(source)
            continue
        blocks.append(_fenced("python", source))
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                blocks.append(_fenced("text", "".join(output["text"]).rstrip()))
            elif "image/png" in output.get("data", {}):
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(output["data"]["image/png"]))
                blocks.append(f"![What the cell above draws]({name})")
            else:
                raise ValueError(f"{path}: the site can show text and PNG, and a cell has {output['output_type']}.")
    blocks.insert(1, f"*This page is the notebook `notebooks/{path.name}` with its stored outputs.*")
    return "\n\n".join(blocks) + "\n", pictures


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
