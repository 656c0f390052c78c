"""The notebooks: their sources run at a small scale, and the stored `.ipynb` are what `make notebooks` made of them."""

import json
import pathlib
import re
import runpy

import matplotlib
from matplotlib import pyplot
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
each_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


@pytest.fixture
def small_scale(tmp_path, monkeypatch):
    """An empty folder to run in, few steps, and no window for plots."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTEBOOK_SCALE", "small")
    matplotlib.use("Agg")
    yield
    pyplot.close("all")


@pytest.mark.optax_promotion
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive:UserWarning")
@each_notebook
def test_the_source_runs(source, small_scale):
    runpy.run_path(str(source), run_name="__main__")


@each_notebook
def test_the_notebook_has_the_cells_of_its_source(source):
    """If not: `make notebooks`."""
    stored = [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in _read(source)["cells"]]
    assert stored == _cells(source.read_text())


@each_notebook
def test_the_notebook_holds_the_outputs_of_one_run(source):
    notebook = _read(source)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    kinds = {output["output_type"] for output in outputs}
    assert kinds == {"stream", "display_data"}  # no errors, and no values such as <Axes at 0x7f…>
    assert {output["name"] for output in outputs if output["output_type"] == "stream"} == {"stdout"}
    assert any("image/png" in output.get("data", {}) for output in outputs)


@each_notebook
def test_the_notebook_names_no_place_of_the_machine_and_is_small(source):
    notebook = _read(source)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)  # letters by chance
    assert re.findall(r"/(?:work|root|tmp|home|Users|usr)\b", json.dumps(notebook)) == []
    assert source.with_suffix(".ipynb").stat().st_size < 300_000


@each_notebook
def test_links_lead_somewhere(source):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", source.read_text())
    assert [link for link in links if not (FOLDER / link).exists()] == []


def test_the_list_of_notebooks_is_complete():
    listed = re.findall(r"\]\((\w+\.ipynb)\)", (FOLDER / "README.md").read_text())
    assert listed == [source.with_suffix(".ipynb").name for source in SOURCES]
    assert sorted(path.name for path in FOLDER.glob("*.ipynb")) == listed


def _read(source):
    return json.loads(source.with_suffix(".ipynb").read_text())


def _cells(text):
    """Kind and source of each cell of a percent-format file."""
    first, *parts = re.split(r"^# %%", text, flags=re.MULTILINE)
    assert first == ""
    cells = []
    for part in parts:
        head, _, body = part.partition("\n")
        if head == " [markdown]":
            cells.append(("markdown", re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip()))
        else:
            cells.append(("code", body.strip()))
    return cells
