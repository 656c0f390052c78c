"""What installed packages offer: several of them, and metadata that lacks a name."""

from learned_optim import installed


def test_offers_are_in_order_and_know_their_package(tmp_path, monkeypatch):
    for name, text in {
        "b": "[a.group]\ny = m.y\nx = m.x\n[another.group]\nz = m.z\n",
        "a": "[a.group]\nw = m.w:f\n",
        "none": "",
    }.items():
        folder = tmp_path / f"{name}-2.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.upper()}_.pkg\nVersion: 2.0\n")
        (folder / "entry_points.txt").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = installed.offers("a.group")
    assert [offer[:4] for offer in found] == [
        ("w", "m.w:f", "a-pkg", "2.0"),
        ("x", "m.x", "b-pkg", "2.0"),
        ("y", "m.y", "b-pkg", "2.0"),
    ]
    assert installed.describe(found[0]) == "the entry point 'm.w:f' of the installed package 'a-pkg' (version 2.0)"


def test_a_package_without_metadata_is_no_error(tmp_path, monkeypatch):
    folder = tmp_path / "odd-1.0.dist-info"
    folder.mkdir()
    (folder / "entry_points.txt").write_text("[a.group]\nx = m.x\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert all(offer.name == "x" for offer in installed.offers("a.group"))
