"""From a folder of images to answers: encode, index, query by images, rebuild by another model."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_search_command import commands
from tiny_model import BITS, export_model, write_folder

from dah_tf import codes as packed
from dah_tf.encoding import Encoder, job
from dah_tf.encoding.rebuild import rebuild
from dah_tf.errors import UserError
from dah_tf.index import Index, Neighbours
from dah_tf.index.reranking import rerank


@pytest.fixture(scope="module", name="models")
def make_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    export_model(folder / "old" / "1")
    export_model(folder / "new" / "1", seed=2, bits=20)
    return folder


@pytest.fixture(name="photos")
def make_photos(models, tmp_path, monkeypatch):
    """60 pictures in `photos`, encoded in `codes` and indexed in `ix`; the working directory."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "photos", 60)
    encoder = Encoder(models / "old")
    job.run(models / "old", "photos", "codes", work=lambda begun: begun.encode_missing(encoder))
    assert commands(["build --index=ix --codes=codes"], tmp_path) == [
        "60 items of 12 bits are in ix\n"
    ]
    return tmp_path


@pytest.mark.slow
def test_images_find_themselves(models, photos):
    (photos / "bad.png").write_text("no image")
    model = f"--index=ix --model={models / 'old'}"
    table, found, far, gallery = commands(
        [
            f"query photos/owl/0002.png bad.png {model} --k=3",
            f"query photos {model} --k=60 --json",
            f"query photos/owl/0002.png {model} --max_distance=0 --label=cat --json",
            f"query photos/dog {model} --k=4 --gallery=found.html",
        ],
        photos,
    )
    lines = table.splitlines()
    assert lines[0].split() == ["query", "rank", "distance", "id", "key", "label"]
    assert lines[1].split()[:3] == ["photos/owl/0002.png", "1", "0"]
    assert len([line for line in lines if " more" not in line]) == 4
    answers = json.loads(found)
    codes = Encoder(models / "old").files("photos").codes
    distances = np.sort(packed.hamming(codes, codes), axis=1)
    for answer, expected in zip(answers, distances.tolist(), strict=True):
        assert [each["distance"] for each in answer["neighbours"]] == expected
        assert answer["label"] == Path(answer["query"]).parent.name
        own = [each for each in answer["neighbours"] if each["key"] == answer["query"]]
        assert own[0]["distance"] == 0 and own[0]["label"] == answer["label"]
    assert all(each["label"] == "cat" for each in json.loads(far)[0]["neighbours"])
    assert "photos/dog/0001.png" in gallery
    page = (photos / "found.html").read_text()
    assert page.count("data:image/") >= 20 and "photos/dog/0001.png" in page


@pytest.mark.slow
def test_queries_of_nothing(models, photos):
    (photos / "bad.png").write_text("no image")
    Path("empty").mkdir()
    model = f"--index=ix --model={models / 'old'}"
    radius, empty, few = commands(
        [
            f"query bad.png {model} --radius=2 --json",
            f"query empty {model}",
            f"query photos/cat {model} --rerank=20 --k=-5",
        ],
        photos,
    )
    assert radius == "[]\n" and empty == "error: empty contains no files"
    assert few == "error: k must be at least 1. Received: -5"


@pytest.mark.slow
def test_reranked_by_hash_values(models, photos):
    """Against brute force: the 20 nearest by Hamming distance, ordered by asymmetric distance."""
    [found] = commands(
        [f"query photos/cat --index=ix --model={models / 'old'} --k=5 --rerank=20 --json"], photos
    )
    encoder = Encoder(models / "old")
    queries, items = encoder.files("photos/cat"), encoder.files("photos")
    bits = packed.unpack(items.codes, BITS)
    for row, answer in enumerate(json.loads(found)):
        hamming = packed.hamming(queries.codes[row : row + 1], items.codes)[0]
        asymmetric = ((2 * queries.hash[row] - 0.5 - bits) ** 2).sum(axis=1)
        last = np.sort(hamming)[19]
        inside, border = hamming < last, hamming == last
        shown = answer["neighbours"]
        assert len(shown) == 5
        scores = [each["score"] for each in shown]
        assert scores == sorted(scores)
        for each in shown:
            place = items.keys.index(each["key"])
            assert each["distance"] == hamming[place] <= last
            assert each["score"] == pytest.approx(asymmetric[place], abs=1e-3)
        # Nothing that must be among the 20 and has a lower score is missing.
        missed = asymmetric[inside][asymmetric[inside] < scores[-1] - 1e-3]
        assert len(missed) <= 4, "border items may be in or out" if border.any() else ""


def test_reranking_by_hand(tmp_path):
    # Bits 0000 0011, 0000 0001 and 1111 1111; the query is unsure of its last bit but one.
    codes = np.array([[0b11], [0b1], [0b11111111]], np.uint8)
    index = Index.create(tmp_path / "ix", 8, codes=codes, ids=[7, 8, 9], backend="numpy")
    values = np.array([[0.25] * 6 + [0.45, 0.75]], np.float32)  # scaled 0 0 0 0 0 0 0.4 1
    found = Neighbours(np.array([[0, 1, -1]], np.int32), np.array([[8, 7, -1]], np.int64))
    scores, distances, ids = rerank(index, values, found, 3)
    # 0.4**2 to 00000001, 0.6**2 to 00000011
    np.testing.assert_allclose(scores, [[0.16, 0.36, -1]], rtol=1e-5)
    assert ids.tolist() == [[8, 7, -1]] and distances.tolist() == [[0, 1, -1]]
    # The same of a head from 0 to 1.
    wide = np.array([[0.0] * 6 + [0.4, 1.0]], np.float32)
    for ours, theirs in zip(
        rerank(index, wide, found, 3, span=(0, 1)), (scores, distances, ids), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    values[0, 6] = 0.55  # scaled 0.6: now 00000011 is nearer
    assert rerank(index, values, found, 1)[2].tolist() == [[7]]
    with pytest.raises(UserError, match="need as many hash values"):
        rerank(index, values[:, :7], found, 1)


def test_codes_of_ids(tmp_path):
    rng = np.random.default_rng(0)
    codes = packed.pack(rng.integers(0, 2, (50, 12))[rng.integers(0, 5, 50)])  # grouped
    index = Index.create(tmp_path / "ix", 12, codes=codes)
    more = packed.pack(rng.integers(0, 2, (9, 12)))
    index.add(more, ids=np.arange(100, 109))
    index.remove([3])
    ids = [100, 5, 0, 49, 5, 108]
    np.testing.assert_array_equal(
        index.codes(ids), np.concatenate([codes, more])[[50, 5, 0, 49, 5, 58]]
    )
    with pytest.raises(UserError, match="id 3 is not in the index"):
        index.codes([5, 3])
    items = [np.concatenate([part[0] for part in index.items()]).tolist()]
    assert sorted(items[0]) == [i for i in range(50) if i != 3] + list(range(100, 109))


@pytest.mark.slow
def test_another_model_is_refused_and_rebuilt(models, photos):
    new = f"--index=ix --model={models / 'new'}"
    refused, built, found, wrong = commands(
        [
            f"query photos/cat {new}",
            f"rebuild {new}",
            f"query photos/cat {new} --k=1 --json",
            f"query photos/cat --index=ix --model={models / 'old'}",
        ],
        photos,
    )
    assert refused.startswith("error: ") and "codes of 20 bits, but ix has codes of 12" in refused
    assert built == "60 items of 20 bits are in ix\n"
    assert [each["neighbours"][0]["distance"] for each in json.loads(found)] == [0] * 20
    assert "makes codes of 12 bits" in wrong
    encoder = Encoder(models / "new")
    expected = encoder.files("photos")
    index = Index.open("ix")
    ids = np.concatenate([part[0] for part in index.items()])
    keys, labels = index.describe(ids)
    assert sorted(ids) == list(range(60)) and sorted(keys) == sorted(expected.keys)
    np.testing.assert_array_equal(
        index.codes(ids), expected.codes[[expected.keys.index(key) for key in keys]]
    )
    assert labels == [Path(key).parent.name for key in keys]
    assert sorted(os.listdir()) == ["codes", "ix", "photos"]  # nothing is left beside


@pytest.mark.slow
def test_keys_begin_where_the_images_were_encoded(models, photos, monkeypatch):
    """Two folders of the same names: neither is taken for the other."""
    (photos / "later").mkdir()
    write_folder(photos / "later" / "photos", 6, seed=7)
    old, new = models / "old", models / "new"
    monkeypatch.chdir(photos / "later")
    job.run(old, "photos", "codes", work=lambda begun: begun.encode_missing(Encoder(old)))
    refused, moved, rebuilt, wrong = commands(
        [
            "add --index=../ix --codes=codes",
            f"add --index=../ix --codes=codes --root={photos}/later",
            f"rebuild --index=../ix --model={new} --root={photos}",
            "rebuild --index=../ix --codes=codes --root=.",
        ],
        photos / "later",
    )
    assert (
        f"the paths of codes start in {photos}/later, but those of ../ix start in {photos};"
        in refused
    )
    assert f"give --root={photos}/later" in refused
    # Whoever says that the folder was moved has the images of these names already.
    assert moved == (
        "6 items are in ../ix already\n0 items were added to ../ix, which has 60 items now\n"
    )
    assert rebuilt == "60 items of 20 bits are in ../ix\n"
    assert "leave out --root" in wrong
    index = Index.open("../ix")
    assert index.root == index.stats()["root"] == str(photos)
    ids, keys, _ = next(index.items())
    made = Encoder(new).files(*(photos / key for key in keys))
    np.testing.assert_array_equal(index.codes(ids), made.codes)
    # And back, from here, without a word on where the images lie.
    (back,) = commands([f"rebuild --index=../ix --model={old}"], photos / "later")
    assert back == "60 items of 12 bits are in ../ix\n"
    index = Index.open("../ix")
    made = Encoder(old).files(*(photos / key for key in keys))
    np.testing.assert_array_equal(index.codes(ids), made.codes)


def test_one_image_by_two_spellings_is_there_once(models, photos):
    old, absolute = models / "old", str(photos / "photos")
    job.run(old, absolute, "same", work=lambda begun: begun.encode_missing(Encoder(old)))
    (added,) = commands(["add --index=ix --codes=same"], photos)
    assert added == (
        "60 items are in ix already\n0 items were added to ix, which has 60 items now\n"
    )
    index = Index.create("empty", BITS)
    assert index.root is None
    index.add(np.zeros((1, 2), np.uint8), keys=["a.png"], root="/there")
    index.add(np.zeros((1, 2), np.uint8), keys=["b.png"])
    index.compact()
    assert Index.open("empty").root == "/there"


@pytest.mark.slow
def test_rebuild_changes_nothing_where_it_fails(models, photos):
    encoder = Encoder(models / "new")
    os.rename("photos/cat/0000.png", "gone.png")
    before = Index.open("ix").stats()

    def encode(begun):
        begun.encode_missing(encoder)

    index = Index.open("ix")
    with pytest.raises(
        UserError, match=r"1 of [0-9]+ images cannot be read \(see .*broken.tsv\)"
    ) as caught:
        rebuild(index, models / "new", encode)
    lost = np.load(re.search(r"remove --index=ix --ids=(\S+)$", str(caught.value))[1])
    assert index.describe(lost)[0] == ["photos/cat/0000.png"]
    assert Index.open("ix").stats() == before
    os.rename("gone.png", "photos/cat/0000.png")

    def changed_meanwhile(begun):
        encode(begun)
        Index.open("ix").remove([5])

    index = Index.open("ix")
    with pytest.raises(UserError, match="was changed in the meantime; repeat the command"):
        rebuild(index, models / "new", changed_meanwhile)
    assert Index.open("ix").bits == BITS
    # What is encoded already is not encoded again.
    write_folder(Path("late"), 1, seed=9)
    late = encoder.files("late")
    index = Index.open("ix")
    index.add(np.zeros((1, 2), np.uint8), keys=late.keys, labels=["late"])
    counts = []

    def counted(begun):
        counts.append(begun.items_of(begun.missing()))
        encode(begun)

    rebuild(index, models / "new", counted)
    assert (len(index), index.bits, counts) == (60, 20, [1])
    made = encoder.files("photos")
    expected = dict(zip(made.keys + late.keys, [*made.codes, *late.codes], strict=True))
    for ids, keys, _ in index.items():
        np.testing.assert_array_equal(index.codes(ids), [expected[key] for key in keys])
    shutil.rmtree("late")
    assert sorted(os.listdir()) == ["codes", "ix", "photos"]


def test_rebuild_of_nothing_and_of_no_paths(models, photos):
    index = Index.create("empty", BITS)
    rebuild(index, models / "new", lambda _: pytest.fail("encodes"))
    assert (len(index), index.bits) == (0, 20)
    index = Index.create("tfds", 8, codes=np.zeros((1, 1), np.uint8), keys=["tfds:cifar10/test#0"])
    with pytest.raises(UserError, match="item 0 has the key tfds:cifar10/test#0, which does not"):
        rebuild(index, models / "new", lambda _: pytest.fail("encodes"))


def test_codes_of_another_model_are_refused(models, photos):
    write_folder(photos / "more", 9, seed=5)
    job.run(
        models / "new", "more", "more.codes", work=lambda begun: begun.encode_missing(
            Encoder(models / "new")
        )
    )  # fmt: skip
    job.run(
        models / "old", "more", "good.codes", work=lambda begun: begun.encode_missing(
            Encoder(models / "old")
        )
    )  # fmt: skip
    wrong, added, again, queried, own = commands(
        [
            "add --index=ix --codes=more.codes",
            "add --index=ix --codes=good.codes",
            "add --index=ix --codes=good.codes",
            "query --index=ix --codes=good.codes --k=1 --json",
            "add --index=ix --codes=good.codes --labels=x.npy",
        ],
        photos,
    )
    assert "codes of 20 bits, but ix has codes of 12" in wrong
    assert added == "9 items were added to ix, which has 69 items now\n"
    assert again == (
        "9 items are in ix already\n0 items were added to ix, which has 69 items now\n"
    )
    assert json.loads(queried)[0]["query"] == "more/cat/0000.png"
    assert "good.codes is a folder of codes, which has its own labels; leave out --labels" in own


def test_five_lines_of_python(models, photos):
    """The README's block, with its names."""
    readme = (Path(__file__).parents[2] / "dah_tf" / "index" / "README.md").read_text()
    block = readme.partition("from dah_tf.encoding import Encoder")[2].partition("```")[0]
    block = "from dah_tf.encoding import Encoder" + block
    block = block.replace("runs/digits-compact-36", str(models / "old"))
    (photos / "query.png").write_bytes((photos / "photos" / "owl" / "0002.png").read_bytes())
    names = {}
    exec(block, names)  # noqa: S102 - the README's own block
    assert names["distances"][0, 0] == 0
    assert "photos/owl/0002.png" in names["keys"]
