"""Loading labelled images by a short name: which images are read, in which order, and errors."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from dah_tf import data
from dah_tf.data import image_sources
from dah_tf.errors import UserError

PHOTOGRAPHS = load_sample_images().images
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")


def crop(i, height=32, width=32):
    """Returns a piece of a photograph, which differs for every `i`."""
    top, left = 37 * i % 380, 91 * i % 590
    return PHOTOGRAPHS[i % 2][top : top + height, left : left + width]


def write(path, image, form="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, form, **({"lossless": True} if form == "WEBP" else {}))


def by_pil(path):
    return np.asarray(Image.open(path).convert("RGB"))


def error(spec, **options):
    """Returns the message with which `load` refuses `spec`, which has one line."""
    with pytest.raises(UserError) as caught:
        data.load(spec, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def folder(tmp_path):
    """Makes three classes of 4, 3 and 2 images in all formats, which the names do not show."""
    counts = {"cat": 4, "ant": 3, "Bee": 2}
    number = 0
    for name, count in counts.items():
        for i in range(count):
            write(tmp_path / "photos" / name / f"{i:02}.dat", crop(number), FORMATS[number % 5])
            number += 1
    return tmp_path / "photos"


# === Folders ===


def test_folder(folder):
    dataset = data.load(f"folder:{folder}")
    assert dataset.class_names == ["Bee", "ant", "cat"]
    assert dataset.labels.dtype == np.int32
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert dataset.train.tolist() == list(range(9)) and dataset.train.dtype == np.int64
    assert not len(dataset.test) and not dataset.skipped and not dataset.multi_label
    assert [path[len(str(folder)) + 1 :] for path in dataset.ids[:3]] == [
        "Bee/00.dat",
        "Bee/01.dat",
        "ant/00.dat",
    ]
    for path, image in zip(dataset.ids, dataset.images.read(np.arange(9)), strict=True):
        assert np.array_equal(image, by_pil(path)), "bit for bit, whatever the format"


def test_folder_twice_is_the_same(folder):
    one, two = (data.load(f"folder:{folder}") for _ in range(2))
    assert one.ids == two.ids and one.fingerprint == two.fingerprint
    write(folder / "ant" / "00.dat", crop(50))
    assert data.load(f"folder:{folder}").fingerprint != one.fingerprint


def test_folder_with_parts(tmp_path):
    for i in range(4):
        write(tmp_path / "train" / "ab"[i % 2] / f"{i}.png", crop(i))
        write(tmp_path / "test" / "ab"[i % 2] / "deeper" / f"{i}.png", crop(i + 4))
    dataset = data.load(f"folder:{tmp_path}")
    assert dataset.train.tolist() == [0, 1, 2, 3]
    assert dataset.test.tolist() == [4, 5, 6, 7]
    assert dataset.labels.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_hidden_files_are_no_images(folder):
    (folder / ".thumbs").mkdir()
    (folder / "ant" / ".DS_Store").write_bytes(b"x")
    assert len(data.load(f"folder:{folder}").labels) == 9


def test_sizes_and_channels(tmp_path):
    # An image of 60 x 40 is cut to its middle 40 x 40, and the antialiased filter halves that.
    for i, name in enumerate("ab"):
        write(tmp_path / name / "x.jpg", crop(i, height=40, width=60), "JPEG")
    dataset = data.load(f"folder:{tmp_path}", image_size=20)
    for i, name in enumerate("ab"):
        square = by_pil(tmp_path / name / "x.jpg")[:, 10:50].astype(float)
        halved = halve(halve(square).swapaxes(0, 1)).swapaxes(0, 1)
        assert abs(dataset.images.read([i])[0] - halved).max() <= 0.51
    assert dataset.images.channels == 3
    grey = data.load(f"folder:{tmp_path}", image_size=40, channels=1)
    image = Image.open(tmp_path / "b" / "x.jpg").convert("L")
    assert np.array_equal(grey.images.read(1)[..., 0], np.asarray(image)[:, 10:50])


def halve(rows):
    """Halves the number of rows with the weights 1/8, 3/8, 3/8, 1/8, which sum to 1 everywhere."""
    count = len(rows) // 2
    result = []
    for i in range(count):
        places = np.arange(2 * i - 1, 2 * i + 3)
        weights = np.array([1, 3, 3, 1.0]) * ((places >= 0) & (places < len(rows)))
        result.append(np.tensordot(weights / weights.sum(), rows[places.clip(0, len(rows) - 1)], 1))
    return np.array(result)


def test_files_beyond_the_cache_are_read_each_time(folder):
    cached, uncached = (data.load(f"folder:{folder}", cache_gib=gib) for gib in (1.0, 1e-9))
    assert isinstance(cached.images, image_sources.ArrayImages)
    assert isinstance(uncached.images, image_sources.FileImages)
    rows = np.array([[3, 0], [8, 8]])
    assert np.array_equal(cached.images.read(rows), uncached.images.read(rows))
    assert cached.labels.tolist() == uncached.labels.tolist()
    assert cached.fingerprint == uncached.fingerprint
    path = folder / "cat" / "02.dat"
    contents = bytearray(path.read_bytes())
    contents[-1] ^= 1  # the last byte of a BMP belongs to a pixel
    path.write_bytes(contents)
    changed = [data.load(f"folder:{folder}", cache_gib=gib).fingerprint for gib in (1.0, 1e-9)]
    assert changed[0] == changed[1] != cached.fingerprint


@pytest.mark.parametrize("gib", [4.0, 1e-9], ids=["cached", "uncached"])
def test_up_to_a_hundredth_unreadable_is_skipped(tmp_path, gib):
    for i in range(199):
        write(tmp_path / "ab"[i % 2] / f"{i:03}.png", crop(i, 8, 8))
    broken = tmp_path / "a" / "100x.png"
    broken.write_bytes(b"no image")
    dataset = data.load(f"folder:{tmp_path}", cache_gib=gib, image_size=8)
    assert dataset.skipped == [(str(broken), "its content is not an image")]
    assert len(dataset.labels) == len(dataset.images) == len(dataset.ids) == 199
    assert str(broken) not in dataset.ids
    for i in (50, 51, 198):  # images after the broken one keep their labels and pixels
        assert np.array_equal(dataset.images.read([i])[0], by_pil(dataset.ids[i]))
        assert dataset.class_names[dataset.labels[i]] == dataset.ids[i].split("/")[-2]
    for name in ("b/300.png", "b/301.png"):
        (tmp_path / name).write_bytes(b"")
    text = error(f"folder:{tmp_path}", cache_gib=gib)
    assert "3 of 202" in text and "1%" in text and "100x.png" in text and "301.png" in text


def test_folder_errors(tmp_path, folder):
    assert str(tmp_path / "none") in error(f"folder:{tmp_path / 'none'}")
    (tmp_path / "empty").mkdir()
    assert "contains no folders of images" in error(f"folder:{tmp_path / 'empty'}")
    write(tmp_path / "single" / "one" / "x.png", crop(0))
    assert "at least two" in error(f"folder:{tmp_path / 'single'}")
    write(tmp_path / "late" / "test" / "a" / "x.png", crop(0))
    (tmp_path / "late" / "train").mkdir()
    assert "late/train contains no folders of images" in error(f"folder:{tmp_path / 'late'}")


def test_a_class_whose_only_file_is_broken(tmp_path):
    for i in range(150):
        write(tmp_path / "ab"[i % 2] / f"{i:03}.png", crop(i, 8, 8))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.jpg").write_text("to do")
    with pytest.raises(data.Unreadable, match="class c has no readable image") as caught:
        data.load(f"folder:{tmp_path}")
    assert caught.value.skipped == [(str(tmp_path / "c" / "x.jpg"), "its content is not an image")]


# === Tables ===


def table(tmp_path, text):
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    return f"csv:{tmp_path / 'list.csv'}"


@pytest.fixture
def images(tmp_path):
    """Writes a.png to d.png next to the table and returns their pixels in that order."""
    for i, name in enumerate("abcd"):
        write(tmp_path / f"{name}.png", crop(i))
    return np.stack([crop(i) for i in range(4)])


def test_csv(tmp_path, images):
    spec = table(tmp_path, f"path,label\nb.png,zoo\n{tmp_path}/a.png, ark \n\nc.png,zoo\n")
    dataset = data.load(spec)
    assert dataset.class_names == ["ark", "zoo"]
    assert dataset.labels.tolist() == [0, 1, 1]
    assert np.array_equal(dataset.images.read([0, 1, 2]), images[:3])


def test_csv_of_several_labels_and_parts(tmp_path, images):
    spec = table(tmp_path, 'd.png,sea;sun,test\na.png,sun\nb.png,"sky;sun",train\nc.png,sea\n')
    dataset = data.load(spec)
    assert dataset.multi_label and dataset.class_names == ["sea", "sky", "sun"]
    assert dataset.labels.dtype == np.uint8
    assert dataset.labels.tolist() == [[0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 0, 1]]
    assert dataset.train.tolist() == [0, 1, 2] and dataset.test.tolist() == [3]
    assert np.array_equal(dataset.images.read([3])[0], images[3])


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("path,label\na.png,x\nb.png\n", 3, "no label"),
        ("a.png,x\nb.png, ; \n", 2, "no label"),
        ("a.png,x\nb.png,y,valid\n", 2, "valid"),
        ("a.png,x,train,1\n", 1, "must be path,label"),
        (",x\n", 1, "must be path,label"),
        ("a.png,x\nb.png,y\na.png,y\n", 3, "already named at"),
    ],
)
def test_csv_bad_rows(tmp_path, images, text, line, reason):
    message = error(table(tmp_path, text))
    assert f"list.csv:{line}: " in message and reason in message


def test_csv_errors(tmp_path, images):
    assert "is not there" in error(f"csv:{tmp_path / 'none.csv'}")
    assert "no training images" in error(table(tmp_path, "path,label\n"))
    assert "no training images" in error(table(tmp_path, "a.png,x,test\nb.png,y,test\n"))
    text = error(table(tmp_path, "a.png,x\nb.png,y\ngone.png,x\nlost.png,x\n"))
    assert "2 of 4" in text and "gone.png (no such file)" in text
    (tmp_path / "list.csv").write_bytes(b"a.png,\xff\xfe\n")
    assert "cannot be read" in error(f"csv:{tmp_path / 'list.csv'}")


# === Arrays ===


def archive(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return f"npz:{tmp_path / 'data.npz'}"


X = np.stack([crop(i, 8, 8) for i in range(6)])
Y = np.array([2, 0, 1, 2, 0, 1])


def test_npz(tmp_path):
    spec = archive(
        tmp_path,
        x_train=X[:4],
        y_train=Y[:4, None],
        x_test=X[4:],
        y_test=Y[4:],
        names=["a", "b", "c"],
    )
    dataset = data.load(spec)
    assert dataset.class_names == ["a", "b", "c"] and dataset.num_classes == 3
    assert dataset.labels.tolist() == Y.tolist() and dataset.labels.dtype == np.int32
    assert dataset.train.tolist() == [0, 1, 2, 3] and dataset.test.tolist() == [4, 5]
    assert np.array_equal(dataset.images.read(np.arange(6)), X)
    assert (dataset.images.size, dataset.images.channels) == (8, 3)


def test_npz_forms(tmp_path):
    grey = data.load(archive(tmp_path, x_train=X[..., 0], y_train=Y))
    assert np.array_equal(grey.images.read([0])[0, ..., 0], X[0, ..., 0])
    three = data.load(f"npz:{tmp_path / 'data.npz'}", channels=3)
    assert np.array_equal(three.images.read([0])[0], np.stack([X[0, ..., 0]] * 3, axis=-1))
    hot = np.eye(3, dtype=np.uint8)[Y]
    assert data.load(archive(tmp_path, x_train=X, y_train=hot)).labels.tolist() == Y.tolist()
    hot[1] = [1, 1, 0]
    several = data.load(archive(tmp_path, x_train=X, y_train=hot))
    assert several.multi_label and np.array_equal(several.labels, hot)
    luma = data.load(f"npz:{tmp_path / 'data.npz'}", channels=1).images.read([2])[0, ..., 0]
    assert np.array_equal(luma, np.asarray(Image.fromarray(X[2]).convert("L")))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({}, "must hold x_train and y_train"),
        ({"x_train": X}, "it holds x_train"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "must hold"),
        ({"x_train": X / 255, "y_train": Y}, "uint8.*float64"),
        ({"x_train": X[..., :2], "y_train": Y}, r"\(6, 8, 8, 2\)"),
        ({"x_train": X[:0], "y_train": Y[:0]}, r"\(0, 8, 8, 3\)"),
        ({"x_train": X, "y_train": Y[:5]}, r"y_train must be integers of shape \(6,\)"),
        ({"x_train": X, "y_train": Y / 2}, "y_train must be integers"),
        ({"x_train": X, "y_train": Y - 1}, "must number the classes from 0"),
        ({"x_train": X, "y_train": np.full((6, 3), 2)}, "0/1"),
        ({"x_train": X, "y_train": np.zeros((6, 3), int)}, "y_train: row 0 has no label"),
        ({"x_train": X, "y_train": Y, "names": ["a"]}, "1 names for 3 classes"),
        ({"x_train": X, "y_train": Y * 0}, "at least two"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, 1:], "y_test": Y},
            r"x_test must have shape \(n, 8, 8, 3\)",
        ),
        ({"x_train": X, "y_train": Y + 2**40}, "in .* images; number the classes from 0"),
    ],
)
def test_npz_errors(tmp_path, arrays, reason):
    with pytest.raises(UserError, match=reason) as caught:
        data.load(archive(tmp_path, **arrays))
    assert "\n" not in str(caught.value)


def test_fingerprint_follows_pixels_labels_and_parts(tmp_path):
    def fingerprint(x, y, train):
        parts = {
            "x_train": x[:train],
            "y_train": y[:train],
            "x_test": x[train:],
            "y_test": y[train:],
        }
        return data.load(archive(tmp_path, **parts)).fingerprint

    pixel = X.copy()
    pixel[3, 4, 5, 1] ^= 1
    found = [
        fingerprint(X, Y, 4),
        fingerprint(pixel, Y, 4),
        fingerprint(X, Y[::-1], 4),
        fingerprint(X, Y, 5),
    ]
    assert len(set(found)) == 4
    assert fingerprint(X, Y, 4) == found[0]


def test_npz_files_that_are_none(tmp_path):
    assert "is not there" in error(f"npz:{tmp_path / 'none.npz'}")
    for name, content in {"text": b"hello", "empty": b"", "zip": b"PK\x03\x04 and so on"}.items():
        (tmp_path / name).write_bytes(content)
        assert "cannot be read as a .npz file" in error(f"npz:{tmp_path / name}")
    np.save(tmp_path / "single.npy", X)
    assert "cannot be read as a .npz file" in error(f"npz:{tmp_path / 'single.npy'}")
    archive(tmp_path, x_train=np.array([{}]), y_train=Y)
    assert "cannot be read as a .npz file" in error(f"npz:{tmp_path / 'data.npz'}")
    whole = io.BytesIO()
    np.savez(whole, x_train=X, y_train=Y)
    (tmp_path / "half").write_bytes(whole.getvalue()[:900])
    assert "cannot be read as a .npz file" in error(f"npz:{tmp_path / 'half'}")


def test_digits():
    dataset = data.load("digits")
    source = load_digits()
    assert dataset.images.read([0]).shape == (1, 16, 16, 1)
    assert dataset.labels.tolist() == source.target.tolist()
    own = data.load("digits", image_size=8)
    wanted = np.floor(source.images * 255 / 16 + 0.5)
    assert abs(own.images.read(np.arange(1797))[..., 0] - wanted).max() <= 1
    assert sorted([*own.train, *own.test]) == list(range(1797))
    # A fifth of each class, rounded down, is for testing, whatever the seed of a run is.
    counts = np.bincount(source.target)
    assert np.bincount(own.labels[own.test]).tolist() == (counts // 5).tolist()
    assert np.array_equal(own.test, dataset.test)
    assert own.fingerprint == data.load("digits", image_size=8).fingerprint
    assert own.fingerprint != dataset.fingerprint


def test_without_tensorflow_resizing_differs_by_one_level_at_most():
    images = np.stack([crop(i, 30, 41) for i in range(5)])
    square = images[:, :, 5:35]
    for size in (16, 30, 47):
        by_rule = image_sources.resize_array(images, size)
        assert by_rule.shape == (5, size, size, 3)
        if size == 30:
            assert np.array_equal(by_rule, square)
        else:
            other = image_sources._resize_by_keras(square, size)
            assert abs(by_rule.astype(int) - other).max() <= 1


def test_arrays_load_without_tensorflow(tmp_path):
    spec = archive(tmp_path, x_train=X, y_train=Y)
    program = (
        "import sys; sys.modules['tensorflow'] = None; from dah_tf import data\n"
        f"for d in (data.load({spec!r}), data.load('digits', image_size=8)):\n"
        "    p = data.make_protocol('own', d)\n"
        "    plan = data.GroupPlan(d.labels[p.train], indices=p.train, seed=1, groups=2)\n"
        "    print(d.images.read(plan.batch(0)['indices']).shape)\n"
        "assert 'keras' not in sys.modules\n"
        "try:\n    data.load('folder:.')\n"
        "except ValueError as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == ["(2, 6, 8, 8, 3)", "(2, 20, 8, 8, 1)"]
    assert lines[2].startswith("UserError")


# === All kinds ===


@pytest.mark.parametrize("spec", ["", "imagenet", "tfds:", "folder:", "folder", "cifar10:x", "npz"])
def test_unknown_names(spec):
    text = error(spec)
    assert f"dataset={spec} is unknown" in text and "folder:PATH" in text
