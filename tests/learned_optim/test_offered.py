"""Optimizers of installed packages: the example of the documentation as a wheel, and packages that are broken."""

import base64
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from learned_optim import __main__ as command_line
from learned_optim import offered
from learned_optim import optimizers

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "sharing.md").read_text(encoding="utf-8")
(PROJECT,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
(ARCHITECTURE,) = re.findall(r"```python\n(import jax.numpy as jnp\n.*?)```", PAGE, re.DOTALL)

# Run by a fresh process, outside of the checkout.
_USE = """
import sys
import learned_optim
assert "small_optimizers" not in sys.modules
assert learned_optim.list_pretrained()[-1] == "small-optimizers/sign-v1", learned_optim.list_pretrained()
assert "small_optimizers" not in sys.modules, "listing ran the package"
import jax.numpy as jnp, numpy as np
tx = learned_optim.learned_optimizer("Small_Optimizers/sign-v1")
params = {"w": jnp.array([1.0, -2.0, 0.0])}
updates, _ = tx.update(params, tx.init(params), params)
np.testing.assert_array_equal(updates["w"], np.array([-0.75, 0.75, 0.0], np.float32))
optimizer, theta = learned_optim.load(sys.argv[1])
assert optimizer.spec["step_size"] == 0.25, optimizer.spec
from learned_optim import __main__ as command_line
assert command_line.main(["list"]) == 0 and command_line.main(["card", "small-optimizers/sign-v1"]) == 0
"""


@pytest.fixture
def sign_descent(monkeypatch):
    """The constructor of the documentation's example, known as if it were installed."""
    names = {}
    exec(ARCHITECTURE, names)
    monkeypatch.setattr(optimizers, "_registered", {"sign_descent": names["sign_descent"]})
    return names["sign_descent"]


def _wheel(folder, source):
    """Builds what the documentation's pyproject.toml describes: a wheel is a zip file with metadata."""
    project = tomllib.loads(PROJECT)["project"]
    stem = f"{project['name'].replace('-', '_')}-{project['version']}"
    files = {str(path.relative_to(source)): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in each.items())
        for group, each in project["entry-points"].items()
    )
    files |= {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n".encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/entry_points.txt": points.encode(),
    }
    hashes = {name: base64.urlsafe_b64encode(hashlib.sha256(data).digest()) for name, data in files.items()}
    record = "".join(f"{name},sha256={hashes[name].rstrip(b'=').decode()},{len(files[name])}\n" for name in files)
    files[f"{stem}.dist-info/RECORD"] = f"{record}{stem}.dist-info/RECORD,,\n".encode()
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_a_package_is_built_installed_and_used_outside_of_the_checkout(tmp_path, sign_descent):
    source, site, elsewhere = tmp_path / "source", tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    optimizer, theta = sign_descent(0.25), {"scale": jnp.float32(3.0)}
    (source / "small_optimizers").mkdir(parents=True)
    (source / "small_optimizers" / "__init__.py").touch()
    (source / "small_optimizers" / "sign_descent.py").write_text(ARCHITECTURE, encoding="utf-8")
    folder = learned_optim.pack((optimizer, theta), source / "small_optimizers" / "sign_v1", name="sign-v1")
    learned_optim.save(elsewhere / "mine.safetensors", optimizer, theta)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile")
    wheel = _wheel(tmp_path, source)
    subprocess.run([*pip, "--no-index", "--no-deps", "--target", site, wheel], check=True)

    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", _USE, "mine.safetensors"]
    used = subprocess.run(
        command, cwd=elsewhere, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    assert used.returncode == 0, used.stderr
    (line,) = (line for line in used.stdout.splitlines() if line.startswith("small-optimizers/sign-v1 "))
    assert line.split()[1:] == ["sign_descent", "1", '{"step_size":', "0.25}"]
    assert used.stdout.endswith((folder / "card.md").read_text(encoding="utf-8") + "\n")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package that offers what it is told, by its metadata. Returns the folder that it is in."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(package, group=offered.ENTRY_POINTS, **points):
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"{name} = {value}\n" for name, value in points.items()]
        (folder / "entry_points.txt").write_text(f"[{group}]\n{''.join(lines)}", encoding="utf-8")
        return tmp_path

    return install


def _pack(folder):
    optimizer = learned_optim.learned_sgd(0.5)
    return learned_optim.pack((optimizer, optimizer.init(jax.random.key(0))), folder)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nowhere.small", "there is no package 'nowhere'"),
        ("bad.small", r"bad.small lacks manifest.json or theta.safetensors"),
        ("good.small:attribute", "must be the dotted path of a folder, such as 'my_package.small_v1'"),
        ("json", "json lacks manifest.json"),
    ],
)
def test_a_broken_package_is_named_and_hides_no_other(install, value, reason, capsys):
    site = install("Good_Ones", small="good.small", other="good.deeper.other")
    for name in ("small", "deeper/other"):
        (site / "good").joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        _pack(site / "good" / name)
    install("bad-ones", small=value)
    (site / "bad").mkdir()
    (site / "bad" / "__init__.py").write_text("raise RuntimeError('nobody should import this')\n", encoding="utf-8")
    message = rf"entry point '{value}' of the installed package 'bad-ones' \(version 1.0\).*{reason.replace('.', '.')}"
    with pytest.warns(UserWarning, match=rf"bad-ones/small is left out: .*{message}"):
        assert learned_optim.list_pretrained()[-2:] == ("good-ones/other", "good-ones/small")
    with pytest.raises(ValueError, match=message):
        learned_optim.learned_optimizer("bad-ones/small")
    params = jnp.ones(2)
    tx = learned_optim.learned_optimizer("good-ones/small")
    np.testing.assert_array_equal(tx.update(params, tx.init(params), params)[0], -0.5 * params)
    with pytest.raises(ValueError, match=r"'good-ones' offers no optimizer 'smal'. Did you mean 'good-ones/small'\?"):
        learned_optim.card("good-ones/smal")


def test_one_whose_weights_are_exchanged_is_listed_with_what_is_wrong(install, capsys):
    site = install("good", small="good.small")
    folder = _pack(site / "good" / "small")
    other = learned_optim.learned_sgd(0.25)
    learned_optim.save(folder / "theta.safetensors", other, other.init(jax.random.key(0)))
    with pytest.raises(ValueError, match=r"theta.safetensors is not the file that manifest.json names: its sha256 is"):
        learned_optim.load_pretrained("good/small")
    assert command_line.main(["list"]) == 0
    *others, last = capsys.readouterr().out.splitlines()
    assert len(others) == 1 + len(learned_optim.list_pretrained()) - 1
    assert re.match(r"good/small +cannot be used: .*theta.safetensors is not the file", last)


def test_a_name_means_the_package_first_and_a_path_the_folder(install, tmp_path, monkeypatch):
    site = install("good", small="inside.small")
    _pack(site / "inside" / "small")
    monkeypatch.chdir(tmp_path)
    optimizer = learned_optim.learned_sgd(0.25)
    learned_optim.pack((optimizer, optimizer.init(jax.random.key(0))), "good/small")
    rate = lambda name: float(jnp.exp(learned_optim.load_pretrained(name)[1]["log_learning_rate"]))
    assert rate("good/small") == pytest.approx(0.5)
    assert rate("./good/small") == rate(pathlib.Path("good/small")) == pytest.approx(0.25)


def test_an_architecture_of_two_packages_and_one_that_returns_something_else(install, monkeypatch):
    monkeypatch.setattr(optimizers, "_registered", {})
    site = install("one", optimizers.ENTRY_POINTS, odd="odd:make", text="odd:text", same="odd:make")
    install("two", optimizers.ENTRY_POINTS, same="odd:make")
    (site / "odd.py").write_text("text = 'a'\ndef make():\n    return 3\n", encoding="utf-8")
    build = lambda kind: optimizers.build({"kind": kind, "feature_version": 1})
    with pytest.raises(
        ValueError, match="constructor of the architecture 'odd' must return a LearnedOptimizer, got in"
    ):
        build("odd")
    with pytest.raises(ValueError, match=r"'text' comes from .*'odd:text' .*'one' .* must be a constructor, got str"):
        build("text")
    with pytest.raises(ValueError, match="'same' is offered by the packages 'one' and 'two': uninstall all but one"):
        build("same")
    with pytest.raises(ValueError, match=r"no architecture 'od'\. .*'two' offers 'same'\. .*environment with pip"):
        build("od")
