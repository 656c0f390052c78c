"""The README's examples run, one with fewer outer steps; its first two commands are the ones the Makefile has."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.optax_promotion
@pytest.mark.parametrize("code", BLOCKS, ids=["use", "meta-train"])
def test_an_example_runs(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code.replace("num_steps=100,", "num_steps=50,"), "README.md", "exec"), names)
    if "value" in names:
        assert float(names["value"]) < 0.1 * float(names["loss"](names["params"]) + 1)  # it has learned
        assert "loss 0.0" in capsys.readouterr().out
    else:
        losses = [row["loss"] for row in names["result"].metrics]
        assert len(losses) == 50
        assert sum(losses[-10:]) / 10 < sum(losses[:10]) / 10 - 0.5
        assert (tmp_path / "runs" / "mine" / "theta.safetensors").exists()


def test_it_opens_with_the_two_commands_of_the_makefile():
    commands = re.findall(r"^make (\w+)", README.split("```")[1], re.MULTILINE)
    assert commands == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{command}:", makefile, re.MULTILINE) for command in commands)


def test_every_relative_link_leads_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", README + (ROOT / "CONTRIBUTING.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
