"""Folders of pictures by class, as they are and packed: order, labels, colors, and what is refused."""

import io
import tarfile
import zipfile

import numpy as np
from PIL import Image
import pytest

from meta_train import data
from meta_train.data import data_folder
from meta_train.data import picture_tree

GRAY = {
    "train/cat/a.png": 1,
    "train/cat/b.png": 2,
    "train/cat/c.png": 3,
    "train/ant/1.png": 4,
    "train/ant/2.png": 5,
    "test/cat/z.png": 6,
    "test/ant/x.png": 7,
}


def _file(value, kind="PNG", size=(4, 3)):
    """A picture of one color, 4 wide and 3 high, as the content of a file."""
    mode = "RGB" if isinstance(value, tuple) else "L"
    buffer = io.BytesIO()
    Image.new(mode, size, value).save(buffer, kind)
    return buffer.getvalue()


def _files(values):
    return {name: _file(value) for name, value in values.items()}


def _put_folder(path, files):
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _put_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def _put_tar(path, files):
    with tarfile.open(path, "w:" + {"gz": "gz", "xz": "xz", "tar": ""}[path.name.rpartition(".")[2]]) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _put(path, files):
    put = _put_zip if path.suffix == ".zip" else _put_tar if ".tar" in path.name else _put_folder
    put(path, files)


@pytest.mark.parametrize("form", ["tree", "tree.tar", "tree.tar.gz", "tree.tar.xz", "tree.zip"])
def test_classes_take_turns(tmp_path, form):
    path = tmp_path / form
    _put(path, _files(dict(reversed(GRAY.items()))))
    parts = picture_tree.read(path)
    assert parts.train_x.shape == (5, 3, 4)
    assert parts.train_x.dtype == np.uint8
    assert parts.train_x[:, 0, 0].tolist() == [4, 1, 5, 2, 3]
    assert parts.train_y.tolist() == ["ant", "cat", "ant", "cat", "cat"]
    assert parts.test_x[:, 2, 3].tolist() == [7, 6]
    assert parts.test_y.tolist() == ["ant", "cat"]


@pytest.mark.parametrize(
    "place", ["pets", "more/pets", "pets.tar", "pets.zip", "more/pets.tar.xz", "pets/jpeg.tar.gz", "pets/any.zip"]
)
def test_they_are_a_data_set_by_name(tmp_path, place):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    _put(path, _files(GRAY))
    assert data.available("pets", data_dir=tmp_path) == "folder"
    pets = data.load("pets", data_dir=tmp_path)
    assert pets.train_x.shape == (5, 3, 4, 1)
    np.testing.assert_array_equal(pets.train_x[:, 0, 0, 0], np.float32([4, 1, 5, 2, 3]) / np.float32(255))
    assert pets.train_y.tolist() == [0, 1, 0, 1, 1]
    assert data.num_classes(pets) == 2


def test_other_files_are_ignored_and_outer_folders_too(tmp_path):
    path = tmp_path / "tree.tar"
    others = {
        "all/train/cat/notes.txt": b"",
        "all/train/cat/.hidden.png": b"",
        "all/loose.png": b"",
        "train/x.png": b"",
    }
    _put(path, {f"all/{name}": content for name, content in _files(GRAY).items()} | others)
    assert len(picture_tree.read(path).train_x) == 5


def test_one_picture_in_color_makes_all_of_them_colored(tmp_path):
    _put(tmp_path / "tree", _files(GRAY | {"train/ant/1.png": (10, 20, 30)}))
    parts = picture_tree.read(tmp_path / "tree")
    assert parts.train_x.shape == (5, 3, 4, 3)
    assert parts.train_x[:2, 0, 0].tolist() == [[10, 20, 30], [1, 1, 1]]
    assert parts.test_x.shape == (2, 3, 4, 3)


def test_jpeg(tmp_path):
    _put(tmp_path / "tree", _files(GRAY) | {"test/ant/x.png": b"", "test/ant/y.JPEG": _file(200, "JPEG")})
    (tmp_path / "tree/test/ant/x.png").unlink()
    assert picture_tree.read(tmp_path / "tree").test_x[0, 0, 0] == 200


def test_what_is_refused(tmp_path):
    files = _files(GRAY)
    for number, (changed, message) in enumerate(
        [
            ({"test/ant/x.png": _file(7, size=(5, 3))}, "one size, got 3×4 pixels and 3×5 of ant/x.png"),
            ({"train/cat/b.png": files["train/cat/b.png"][:-40]}, "train/cat/b.png cannot be read as a picture"),
            ({"train/cat/b.png": b"text"}, "train/cat/b.png cannot be read as a picture"),
        ]
    ):
        path = tmp_path / f"{number}.zip"
        _put(path, files | changed)
        with pytest.raises(ValueError, match=message):
            picture_tree.read(path)
    for part in ("train", "test"):
        path = tmp_path / f"no {part}.tar"
        _put(path, {name: content for name, content in files.items() if not name.startswith(part)})
        with pytest.raises(ValueError, match=rf"no {part}.tar: expected pictures {part}/CLASS/\*.png"):
            picture_tree.read(path)


def test_pictures_of_16_bits_are_refused(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.full((3, 4), 40_000, np.uint16)).save(buffer, "PNG")
    _put(tmp_path / "tree", _files(GRAY) | {"train/ant/1.png": buffer.getvalue()})
    with pytest.raises(ValueError, match=r"train/ant/1.png cannot .* \(expected 8 bits a channel\)"):
        picture_tree.read(tmp_path / "tree")


@pytest.mark.parametrize("form", ["tree.tar", "tree.tar.gz", "tree.tar.xz", "tree.zip"])
def test_damaged_archives(tmp_path, form):
    path = tmp_path / form
    _put(path, _files(GRAY))
    path.write_bytes(path.read_bytes()[:-200] if form != "tree.tar" else path.read_bytes()[:550])
    with pytest.raises(ValueError, match=rf"{form}: the archive is cut short or damaged"):
        picture_tree.read(path)


def test_a_part_of_cifar10_has_a_name_of_its_own(tmp_path):
    """In the folder of CIFAR-10 too, where it does not stand for the whole set."""
    _put(tmp_path / "cifar10", {"notes.txt.md": b""})
    part = tmp_path / "cifar10" / "subset.npz"
    x, y = np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 1, 0, 1])
    np.savez(part, train_x=x, train_y=y, test_x=x, test_y=y)
    assert data_folder.find(tmp_path, "cifar2k") == (part,)
    assert data_folder.find(tmp_path, "cifar10") == ()
    archive = tmp_path / "cifar10" / "jpeg.tar.xz"
    _put(archive, _files(GRAY))
    assert data_folder.find(tmp_path, "cifar10") == (archive,)
    np.savez(tmp_path / "cifar2k.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    assert data_folder.find(tmp_path, "cifar2k") == (tmp_path / "cifar2k.npz",)
