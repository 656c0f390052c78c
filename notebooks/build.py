"""Builds the notebooks: runs the cells of each percent-format `.py` here and writes the `.ipynb` with their outputs.

    python notebooks/build.py [notebooks/01_use_a_pretrained_optimizer.py …]

It runs them in an empty folder, and keeps nothing that changes from build to build but what the cells themselves give.
"""

import argparse
import pathlib
import tempfile

import jupytext
import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def build(source: pathlib.Path) -> None:
    """Runs a notebook from its source and writes it beside it.

    Raises:
      RuntimeError: if a cell wrote to stderr: a warning, or a progress bar, which do not belong into a stored notebook.
      nbclient.exceptions.CellExecutionError: if a cell failed.
    """
    notebook = nbformat.from_dict({**jupytext.read(source, fmt="py:percent"), "metadata": METADATA})
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(
            notebook,
            timeout=1800,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=ERROR"],
        )
        client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise RuntimeError(f"{source}: a cell wrote to stderr: {output['text']}")
    notebook.metadata = METADATA
    nbformat.validate(notebook)
    nbformat.write(notebook, source.with_suffix(".ipynb"))


def main() -> None:
    """Builds the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=pathlib.Path, nargs="*", default=sorted(FOLDER.glob("[0-9]*.py")))
    for source in parser.parse_args().source:
        print(source, flush=True)
        build(source)


if __name__ == "__main__":
    main()
