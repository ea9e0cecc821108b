"""GIST, HOG and pixels."""

import numpy as np
import pytest

from dah_tf.baselines import features
from dah_tf.baselines.features import base, gist
from dah_tf.errors import UserError


def some_images(n=6, side=32, channels=3, seed=0, high=256):
    """Random images, smooth enough to have structure at all scales."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, high, (n, side // 4, side // 4, channels))
    fine = rng.integers(0, high, (n, side, side, channels))
    return ((coarse.repeat(4, axis=1).repeat(4, axis=2) + fine) // 2).astype(np.uint8)


def direct_gist(x):
    """GIST of float gray images, as the definition has it, by whole Fourier transforms."""
    n, side = x.shape[:2]
    x = x - x.min(axis=(1, 2), keepdims=True)
    x = np.log(x / x.max(axis=(1, 2), keepdims=True) * 255 + 1)
    x = np.pad(x, ((0, 0), (5, 5), (5, 5)), "symmetric")
    f = np.fft.ifftshift(np.arange(side + 10) - (side + 10) // 2)
    low = np.exp(-(f[:, None] ** 2 + f**2) / (4 / np.sqrt(np.log(2))) ** 2)
    o = x - np.fft.ifft2(np.fft.fft2(x) * low).real
    o = o / (0.2 + np.sqrt(np.abs(np.fft.ifft2(np.fft.fft2(o**2) * low))))
    o = np.pad(o[:, 5:-5, 5:-5], ((0, 0), (32, 32), (32, 32)), "symmetric")
    size = side + 64
    f = np.fft.ifftshift(np.arange(size) - size // 2) / size
    fx, fy = np.meshgrid(f, f)
    values = []
    for s in range(4):
        for j in range(8):
            angle = np.angle(fx + 1j * fy) + np.pi * j / 8
            angle[angle > np.pi] -= 2 * np.pi
            gains = np.exp(
                -10 * 0.35 * (np.hypot(fx, fy) / (0.3 / 1.85**s) - 1) ** 2
                - 2 * (16 * 8**2 / 32**2) * np.pi * angle**2
            )
            strength = np.abs(np.fft.ifft2(np.fft.fft2(o) * gains))[:, 32:-32, 32:-32]
            cell = side // 4
            values.append(strength.reshape(n, 4, cell, 4, cell).mean(axis=(2, 4)).reshape(n, 16))
    values = np.concatenate(values, axis=1)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.mark.parametrize("side", [32, 28, 48])
def test_gist_is_what_its_definition_says(side):
    images = some_images(side=side)
    result = features.get("gist")(images)
    assert result.shape == (6, 512)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, direct_gist(images.mean(axis=3)), atol=1e-6)


@pytest.mark.parametrize(("gain", "offset"), [(1, 40), (3, 0), (3, 60)])
def test_gist_ignores_brightness_and_contrast(gain, offset):
    images = some_images(high=64)
    other = (images * gain + offset).astype(np.uint8)
    np.testing.assert_allclose(features.get("gist")(other), features.get("gist")(images), atol=1e-6)
    # The contrast of a part of the image is not the whole image's.
    half = images.copy()
    half[:, :16] = half[:, :16] // 3
    assert np.abs(features.get("gist")(half) - features.get("gist")(images)).max() > 1e-3


def test_gist_of_a_constant_image_is_zero():
    images = some_images(3)
    images[1] = 77
    result = features.get("gist")(images)
    assert not result[1].any()
    np.testing.assert_allclose(np.linalg.norm(result[[0, 2]], axis=1), 1, atol=1e-6)


def test_gist_of_a_transposed_image():
    # The polar angle a becomes pi / 2 - a, so that orientation j becomes (4 - j) mod 8.
    images = some_images()
    one = features.get("gist")(images).reshape(6, 4, 8, 4, 4)
    other = features.get("gist")(images.swapaxes(1, 2)).reshape(6, 4, 8, 4, 4)
    for j in range(8):
        np.testing.assert_allclose(other[:, :, (4 - j) % 8], one[:, :, j].swapaxes(2, 3), atol=5e-3)


@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("orientation", range(8))
def test_gist_finds_a_gratings_scale_and_orientation(scale, orientation):
    # A filter lies at the polar angle -pi j / 8.
    frequency, angle = 0.3 * 1.85**-scale, -np.pi * orientation / 8
    rows, columns = np.mgrid[:64, :64]
    phase = 2 * np.pi * frequency * (columns * np.cos(angle) + rows * np.sin(angle))
    image = np.round(127 + 60 * np.cos(phase)).astype(np.uint8)
    strength = features.get("gist")(image[None]).reshape(4, 8, 16).sum(axis=2)
    assert np.unravel_index(strength.argmax(), (4, 8)) == (scale, orientation)


def test_gist_keeps_each_cells_place():
    # A grating in the upper right corner alone; flat elsewhere.
    image = np.full((1, 64, 64), 128, np.uint8)
    image[0, :16, 48:] = np.where(np.arange(16) % 4 < 2, 60, 200)
    cells = features.get("gist")(image).reshape(32, 4, 4).sum(axis=0)
    assert np.unravel_index(cells.argmax(), (4, 4)) == (0, 3)


def test_gist_is_of_the_mean_of_the_channels():
    images = some_images()
    one = features.get("gist")(images)
    np.testing.assert_allclose(features.get("gist")(images[..., ::-1]), one, atol=1e-6)
    gray = images.mean(axis=3).round().astype(np.uint8)
    whole = features.get("gist")(gray.repeat(3).reshape(6, 32, 32, 3))
    np.testing.assert_allclose(features.get("gist")(gray), whole, atol=1e-6)


def test_gist_of_resized_images():
    images = some_images()
    same = features.get("gist:size=32")(images)
    np.testing.assert_array_equal(same, features.get("gist")(images))
    larger = features.get("gist:size=64")(images)
    assert larger.shape == (6, 512)
    assert np.abs(larger - same).max() > 0.01
    ways = gist._interpolation(4, 8)
    # Pixel 1 of 8 has its centre at 1.5 / 2 - 0.5 = 0.25 of the old ones.
    np.testing.assert_allclose(ways[1], [0.75, 0.25, 0, 0])
    np.testing.assert_allclose(ways[0], [1, 0, 0, 0])
    np.testing.assert_allclose(ways[7], [0, 0, 0, 1])
    np.testing.assert_allclose(ways @ np.arange(4.0), np.clip(np.arange(8) / 2 - 0.25, 0, 3))


def direct_hog(image, orientations, cell, block):
    """HOG by loops over pixels, cells and blocks."""
    image = image.astype(float)
    height, width, channels = image.shape
    rows, columns = height // cell, width // cell
    cells = np.zeros((rows, columns, orientations))
    for y in range(rows * cell):
        for x in range(columns * cell):
            best = (0.0, 0.0, 0.0)
            for c in range(channels):
                down = image[y + 1, x, c] - image[y - 1, x, c] if 0 < y < height - 1 else 0.0
                right = image[y, x + 1, c] - image[y, x - 1, c] if 0 < x < width - 1 else 0.0
                best = max(best, (np.hypot(down, right), down, right), key=lambda each: each[0])
            degrees = np.degrees(np.arctan2(best[1], best[2])) % 180
            cells[y // cell, x // cell, int(degrees / (180 / orientations))] += best[0] / cell**2
    result = []
    for y in range(rows - block + 1):
        for x in range(columns - block + 1):
            part = cells[y : y + block, x : x + block].ravel()
            part = np.minimum(part / np.sqrt((part**2).sum() + 1e-10), 0.2)
            result.append(part / np.sqrt((part**2).sum() + 1e-10))
    return np.concatenate(result)


@pytest.mark.parametrize(
    ("text", "size", "shape"),
    [
        ("hog", (9, 8, 2), (3, 32, 32, 3)),
        ("hog", (9, 8, 2), (2, 24, 37, 1)),
        ("hog:orientations=7,cell=5,block=3", (7, 5, 3), (2, 32, 21, 3)),
    ],
)
def test_hog_is_what_its_definition_says(text, size, shape):
    # Odd differences only, whose directions lie on no bin's edge except 0 and a quarter turn.
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    result = features.get(text)(images)
    assert result.dtype == np.float32
    expected = np.stack([direct_hog(image, *size) for image in images])
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_hog_ignores_brightness_and_contrast():
    images = some_images(high=64)
    other = (images * 3 + 60).astype(np.uint8)
    np.testing.assert_allclose(features.get("hog")(other), features.get("hog")(images), atol=1e-5)
    assert features.get("hog")(images).shape == (6, 324)
    assert not features.get("hog")(np.full((1, 16, 16), 9, np.uint8)).any()


def test_pixels():
    images = np.array([[[[0], [255]], [[51], [102]]]], np.uint8)
    np.testing.assert_allclose(features.get("pixels")(images), [[0, 1, 0.2, 0.4]], atol=1e-7)
    assert features.get("pixels")(some_images()).shape == (6, 3072)


@pytest.mark.parametrize("text", ["gist", "hog", "pixels"])
def test_batches_give_the_features_of_the_whole(text, tmp_path):
    images = some_images(9)
    before = images.copy()
    whole = features.extract(text, images, batch=100)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    for batch in (1, 4):
        np.testing.assert_array_equal(features.extract(text, images, batch), whole)
        np.testing.assert_array_equal(features.extract(features.get(text), mapped, batch), whole)
    np.testing.assert_array_equal(images, before)


def test_extract_looks_at_a_batch_at_a_time():
    sizes = []

    class Mean(base.Feature):
        def _describe(self, images):
            sizes.append(len(images))
            return images.mean(axis=(1, 2, 3), dtype=np.float32)[:, None]

    images = some_images(10)
    rows = features.extract(Mean(), images, batch=4)
    assert sizes == [4, 4, 2]
    np.testing.assert_allclose(rows[:, 0], images.mean(axis=(1, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "images", "match"),
    [
        (
            "gist",
            np.zeros((2, 32, 32, 3)),
            r"uint8 array of shape .*, but they are float64 of shape",
        ),
        ("pixels", np.zeros((32, 32), np.uint8), r"they are uint8 of shape \(32, 32\)"),
        ("hog", np.zeros((2, 32, 32, 2), np.uint8), "they are uint8"),
        ("gist", np.zeros((0, 32, 32, 3), np.uint8), "at least one image"),
        ("gist", np.zeros((1, 32, 31), np.uint8), "square images, but these have 32 x 31 pixels"),
        ("gist", np.zeros((1, 3, 3), np.uint8), "at least 4 pixels a side"),
        (
            "hog",
            np.zeros((1, 32, 15), np.uint8),
            "at least 16 pixels a side, but these have 32 x 15",
        ),
        ("gist:size=4", None, "feature gist:size=4: size=4 must be at least 8 pixels"),
        ("hog:cell=0", None, "feature hog:cell=0: orientations, cell and block must be"),
        ("sift", None, "there is no feature 'sift'; there are gist, hog, pixels"),
        ("gist:side=4", None, "feature gist has no option 'side'; its options are size"),
    ],
)
def test_what_does_not_fit_is_refused(text, images, match):
    with pytest.raises(UserError, match=match) as caught:
        features.extract(text, images)
    assert "\n" not in str(caught.value)


def test_a_batch_has_at_least_one_image():
    with pytest.raises(UserError, match="batch=0 must be at least 1"):
        features.extract("pixels", some_images(), batch=0)
