"""Pictures: area averages against averages of enlarged pictures, luma against its definition, ranges and errors."""

import numpy as np
import pytest

from meta_train.data import pictures as data_pictures


def _random(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(28, 28, 8), (8, 8, 4), (7, 5, 3), (6, 9, 1), (5, 5, 5), (3, 4, 2)]
)
def test_areas_are_averaged_exactly(height, width, size):
    """A pixel drawn as size×size equal ones makes every cell of the new grid a whole block."""
    images = _random((2, height, width, 3))
    fine = images.astype(np.float64).repeat(size, axis=1).repeat(size, axis=2) / 255
    expected = fine.reshape(2, size, height, size, width, 3).mean(axis=(2, 4))
    result = data_pictures.prepare(images, size=size)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(result.mean(axis=(1, 2)), images.mean(axis=(1, 2)) / 255, rtol=0, atol=1e-6)


def test_many_pictures_are_converted_as_few_are(monkeypatch):
    images = _random((7, 6, 6))
    whole = data_pictures.prepare(images, size=4)
    monkeypatch.setattr(data_pictures, "_CHUNK", 80)  # two pictures at a time, the last one alone
    np.testing.assert_array_equal(data_pictures.prepare(images, size=4), whole)


def test_without_size_pictures_are_only_scaled():
    images = _random((3, 4, 5))
    result = data_pictures.prepare(images)
    np.testing.assert_array_equal(result, (images / 255).astype(np.float32)[..., None])
    floats = np.random.default_rng(0).uniform(size=(3, 4, 5, 2)).astype(np.float32)
    np.testing.assert_array_equal(data_pictures.prepare(floats), floats)


def test_gray_is_the_luma():
    colors = np.eye(3, dtype=np.uint8).reshape(1, 1, 3, 3) * 255
    gray = data_pictures.prepare(colors, gray=True)
    np.testing.assert_allclose(gray[0, 0, :, 0], [0.299, 0.587, 0.114], rtol=1e-6)
    white = data_pictures.prepare(np.full((1, 2, 2, 3), 255, np.uint8), gray=True, size=1)
    np.testing.assert_allclose(white, np.ones((1, 1, 1, 1)), rtol=1e-6)
    np.testing.assert_array_equal(data_pictures.prepare(colors[..., :1], gray=True), colors[..., :1] / 255)


@pytest.mark.parametrize("shape", [(2, 3, 6, 4), (2, 1, 5, 5), (2, 3, 4, 4), (2, 3, 2, 2), (2, 1, 8, 6)])
def test_channels_before_height_and_width_are_recognized(shape):
    images = _random(shape)
    expected = data_pictures.prepare(np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
    np.testing.assert_array_equal(data_pictures.prepare(images), expected)
    assert data_pictures.prepare(images, size=2, gray=True).shape == (2, 2, 2, 1)


@pytest.mark.parametrize("shape", [(2, 3, 4, 3), (2, 1, 3, 3), (2, 3, 3, 1), (2, 4, 4, 2), (2, 9, 9, 13), (2, 5, 6, 7)])
def test_channels_stay_the_last_axis_where_they_can_be(shape):
    images = _random(shape)
    assert data_pictures.channels_last(images) is images


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (_random((1, 4, 5)), {"size": 5}, r"an int in 1…4 for pictures of 4×5, got 5"),
        (_random((1, 4, 5)), {"size": 0}, "got 0"),
        (_random((1, 4, 5)), {"size": 2.0}, "got 2.0"),
        (_random((1, 4, 4, 2)), {"gray": True}, "1 or 3 channels, got 2"),
        (_random((1, 4, 4)).astype(np.int32), {}, "uint8 or floats in 0…1, got int32"),
        (_random((1, 4, 8, 8)), {}, r"got the shape \(1, 4, 8, 8\), which seems to have 4 channels on the second axis"),
        (_random((1, 13, 64, 64)), {"size": 8}, "channels must be the last axis of pictures"),
        (np.full((1, 2, 2), 1.5), {}, "got float64 in 1.5…1.5"),
        (np.full((1, 2, 2), -0.5), {}, "got float64 in -0.5…-0.5"),
        (np.full((1, 2, 2), np.nan), {}, "got float64 in nan…nan"),
    ],
)
def test_errors(images, options, message):
    with pytest.raises(ValueError, match=message):
        data_pictures.prepare(images, **options)
