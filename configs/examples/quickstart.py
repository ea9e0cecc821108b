"""From arrays to neighbours in a minute: `python configs/examples/quickstart.py`.

It trains a small network on scikit-learn's handwritten digits, turns the images into codes of 24
bits, keeps the codes in an index, and looks for the nearest neighbours of some test images.
"""

import pathlib
import tempfile

import sklearn.datasets

import dah_tf

folder = pathlib.Path(tempfile.mkdtemp(prefix="quickstart-"))

# These are 1,797 grey images with values from 0 to 16, and the digit that each one shows.
digits = sklearn.datasets.load_digits()
images = (digits.images * (255 / 16)).round().astype("uint8")
train, test = slice(0, 1500), slice(1500, None)

# The images are made 16 pixels wide, which is the least that `compact` takes.
data = dah_tf.load_data(
    images=images[train],
    labels=digits.target[train],
    test_images=images[test],
    test_labels=digits.target[test],
    image_size=16,
)

# What the recipe leaves open is decided by the data; here a short run is enough.
recipe = dah_tf.Recipe(
    bits=24,
    backbone="compact:widths=32/64/64",
    epochs=10,
    flip="none",
    mirror=False,
    workdir=folder / "run",
)
run = dah_tf.train(recipe, data, watch=[lambda step, values: None])
print(f"MAP {100 * run.result['map']['expected']:.1f} % on the test images")

# The index has the training images. The test images are the queries.
items = data.images.read(data.train)
queries = data.images.read(data.test[:5])
index = dah_tf.Index.create(
    folder / "index",
    bits=run.model.bits,
    fingerprint=run.model.fingerprint(),
    codes=run.model.encode(items),
    labels=[str(label) for label in digits.target[train]],
)
distances, ids = index.search(run.model.encode(queries), k=5)
for row, wanted in enumerate(digits.target[test][:5]):
    _, labels = index.describe(ids[row])
    print(
        f"a {wanted}: the nearest images are {', '.join(labels)} at {distances[row].tolist()} bits"
    )
print(f"the run and the index are in {folder}")
