"""Galleries: what is framed, that every name and file is survived, and that files are whole."""

import base64
import html.parser
import io
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from dah_tf import gallery
from dah_tf.errors import UserError, shortened
from dah_tf.gallery import captions, sheet, thumbnails

HOSTILE = "<script>&amp;\"'\n\x00\udcff\u202e/;é"
VERMILION, WHITE, BLACK, PALE = (213, 94, 0), (255, 255, 255), (0, 0, 0), (204, 204, 204)
BLUE = (10, 20, 200)


def neighbour(rank, label="", path=None, key=None):
    key = f"key{rank}" if key is None else key
    return {
        "rank": rank,
        "distance": 2 * rank,
        "id": 100 + rank,
        "key": key,
        "label": label,
        "path": path,
    }


def answer(label="", neighbours=(), path=None, query="the query"):
    return {"query": query, "path": path, "label": label, "neighbours": list(neighbours)}


def save(path, color=BLUE, size=(32, 32)):
    """An image file of one colour; its path as str."""
    Image.new("RGB", size, color).save(path)
    return str(path)


class Page(html.parser.HTMLParser):
    """A page's elements as `(tag, attributes)`, the text in each list item, and all text."""

    VOID = ("meta", "wbr")

    def __init__(self, path):
        super().__init__()
        self.elements, self.items, self.text, self.open = [], [], "", []
        self.source = pathlib.Path(path).read_bytes().decode()
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "li":
            self.items.append({"text": "", "elements": []})
        if "li" in self.open:
            self.items[-1]["elements"].append(self.elements[-1])

    def handle_startendtag(self, tag, attributes):  # of SVG
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text += text if "style" not in self.open else ""
        if "li" in self.open:
            self.items[-1]["text"] += text

    def found(self, name, elements=None):
        """Every value of an attribute."""
        elements = self.elements if elements is None else elements
        return [attributes[name] for _, attributes in elements if name in attributes]

    def wrong(self):
        """Whether each neighbour is framed, crossed, and called wrong."""
        marks = []
        for item in self.items:
            classes = " ".join(self.found("class", item["elements"])).split()
            spoken = " ".join([item["text"], *self.found("aria-label", item["elements"])])
            marks.append(("wrong" in classes, "cross" in classes, "wrong class" in spoken))
        return marks


def embedded(page):
    """The pictures in a page."""
    links = [link for link in page.found("href") if link.startswith("data:")]
    return [Image.open(io.BytesIO(base64.b64decode(link.split(",")[1]))) for link in links]


def written(tmp_path, *answers, ending=".html"):
    path = str(tmp_path / f"gallery{ending}")
    gallery.write(path, list(answers))
    return Page(path) if ending == ".html" else np.asarray(Image.open(path))


def tile(pixels, row, column, margin=0):
    """The square of a neighbour's picture in a sheet, and `margin` pixels around it."""
    top = sheet.MARGIN + row * sheet.LINE - margin
    left = sheet.FIRST + column * (sheet.TILE + sheet.GAP) - margin
    side = sheet.TILE + 2 * margin
    return pixels[top : top + side, left : left + side]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("g.jpg", "ends in .html or .png"),
        ("html", "ends in .html or .png"),
        ("none/g.png", "no folder"),
        ("folder.html", "is a folder"),
    ],
)
def test_names_that_cannot_be_written(tmp_path, name, message):
    (tmp_path / "folder.html").mkdir()
    for call in (gallery.check, lambda path: gallery.write(path, [])):
        with pytest.raises(UserError, match=message):
            call(str(tmp_path / name))


def test_endings_of_any_case_and_names_without_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("G.HTML", "g.png"):
        gallery.check(name)
        gallery.write(name, [answer()])
        assert os.path.getsize(name)


def test_a_page_needs_nothing_from_outside(tmp_path):
    picture = save(tmp_path / "a.png")
    page = written(tmp_path, answer("cat", [neighbour(1, "cat", picture)], picture))
    assert [tag for tag, _ in page.elements if tag in ("script", "link", "iframe", "base")] == []
    links = page.found("href") + page.found("src")
    assert len(links) == 2
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert "@import" not in page.source
    assert "url(" not in page.source
    assert [tag for tag, _ in page.elements].count("section") == 1
    assert len(page.items) == 1


def test_captions_tell_rank_distance_label_and_key(tmp_path):
    long = "photos/" + "x" * 100 + "/end.jpg"
    page = written(
        tmp_path, answer("cat", [neighbour(3, "dog;pet", key=long), neighbour(4, key="")])
    )
    text = page.items[0]["text"]
    assert "3 · distance 6" in text
    assert "dog;pet" in text
    assert long not in text
    assert "photos/xx" in text
    assert "xx/end.jpg" in text
    assert long in page.found("title", page.items[0]["elements"])
    assert "id 104" in page.items[1]["text"]


def test_text_is_shortened_in_the_middle():
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abc…fghijk"
    assert shortened("abc", 1) == "…"


def test_names_of_any_characters(tmp_path):
    picture = save(tmp_path / "a.png")
    found = neighbour(1, HOSTILE, picture, HOSTILE)
    answers = [answer("x" + HOSTILE, [found, {**found, "path": None}], picture, HOSTILE)]
    page = written(tmp_path, *answers)
    told = "<script>&amp;\"'\\n\\x00\\udcff\\u202e/;é"
    assert page.found("title").count(told) == 6
    assert f"query {told}, x{told}" in page.found("aria-label")
    assert page.text.count(told) == 7
    assert all(c.isprintable() or c == "\n" for c in page.source)
    assert written(tmp_path, *answers, ending=".png").any()


LABELS = ["cat", "dog", "", "wild; cat", "dog;bird"]
WRONG = [False, True, False, False, True]


def test_wrong_neighbours_are_marked_in_a_page(tmp_path):
    picture = save(tmp_path / "a.png")
    for path in (picture, None):
        found = [neighbour(i, label, path) for i, label in enumerate(LABELS)]
        page = written(tmp_path, answer("cat;pet", found, picture), answer("", found, picture))
        assert page.wrong() == [(wrong,) * 3 for wrong in WRONG + [False] * 5]
        assert "A frame and a cross mark" in page.text
    page = written(tmp_path, answer("", found, picture))
    assert "A frame and a cross mark" not in page.text


def test_wrong_neighbours_are_framed_and_crossed_in_a_sheet(tmp_path):
    picture = save(tmp_path / "a.png")
    for path in (picture, None):
        found = [neighbour(i, label, path) for i, label in enumerate(LABELS)]
        pixels = written(tmp_path, answer(), answer("cat;pet", found), ending=".png")
        for column, wrong in enumerate(WRONG):
            around = tile(pixels, 1, column, margin=sheet.FRAME)
            for edge in (around[:4], around[-4:], around[:, :4], around[:, -4:]):
                assert (edge == VERMILION).all() == wrong
                assert (edge == VERMILION).any() == wrong
            corner = tile(pixels, 1, column)[:26, :26]
            assert (corner[12:14, 12:14] == BLACK).all() == wrong
            if path:
                assert (corner[2, 2:24] == (WHITE if wrong else BLUE)).all()
                assert (tile(pixels, 1, column)[40:, 40:] == BLUE).all()


def test_precision_where_every_label_is_known(tmp_path):
    known = answer("cat", [neighbour(i, "dog" if i < 2 else "cat") for i in range(3)])
    right = answer("a;b", [neighbour(1, "b;c")])
    page = written(tmp_path, known, right)
    # 1 of 3 and 1 of 1: in the mean 2 / 3.
    assert "1 of 3 neighbours of its class: precision 0.333" in page.text
    assert "1 of 1 neighbour of its class: precision 1" in page.text
    assert "2 queries, 4 neighbours; mean precision 0.667" in page.text
    known["neighbours"].append(neighbour(9, " ; "))
    for unknown in (known, answer("", right["neighbours"]), answer("cat")):
        assert "precision" not in written(tmp_path, unknown, right).text.split("precision 1")[0]


def test_queries_without_a_match_and_no_queries(tmp_path):
    page = written(tmp_path, answer("cat"))
    assert "no match" in page.text
    assert page.items == []
    assert "0 queries" in written(tmp_path).text
    for answers in ([answer("cat")], []):
        pixels = written(tmp_path, *answers, ending=".png")
        assert (pixels.min(axis=-1) < 100).any()
    assert (tile(written(tmp_path, answer(), ending=".png"), 0, 0) < 100).any()


def test_a_picture_is_embedded_once(tmp_path):
    first, second = save(tmp_path / "a.png"), save(tmp_path / "b.png", WHITE)
    found = [neighbour(1, path=second), neighbour(2, path=first)]
    page = written(tmp_path, answer(neighbours=found, path=first), answer(path=second))
    assert [image.getpixel((5, 5)) for image in embedded(page)] == [BLUE, WHITE]
    uses = [attributes["href"] for tag, attributes in page.elements if tag == "use"]
    places = [attributes["id"] for tag, attributes in page.elements if tag == "image"]
    assert uses == [f"#{places[0]}", f"#{places[1]}"]


def test_unreadable_files_become_tiles_that_say_so(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image at all")
    reasons = {"broken.png": "not a readable image", "missing\udcff\n.png": "file not found"}
    reasons[""] = "not a file"
    reasons = {f"{tmp_path}/{name}": reason for name, reason in reasons.items()}
    found = [neighbour(i, path=path, key=path) for i, path in enumerate(reasons)]
    answers = [answer(neighbours=found, path=path, query="lost") for path in reasons]
    page = written(tmp_path, *answers)
    assert len(page.items) == 9
    for item, (path, reason) in zip(page.items, [*reasons.items()] * 3, strict=True):
        assert reason in item["text"]
        assert page.found("title", item["elements"]) == [captions.shown(path)] * 2
    assert page.text.count("not a file") == 3 + 1  # as a neighbour, and as a query
    pixels = written(tmp_path, *answers, ending=".png")
    for column in range(3):
        assert (tile(pixels, 0, column, margin=1)[0] == PALE).all()
        assert (tile(pixels, 0, column)[50:100].min(axis=-1) < 150).any()


def test_pictures_lie_in_the_middle_of_their_tiles(tmp_path):
    def place(size):
        page = written(tmp_path, answer(path=save(tmp_path / "a.png", size=size)))
        [found] = [attributes for tag, attributes in page.elements if tag == "image"]
        return [found[name] for name in ("x", "y", "width", "height", "class")]

    assert place((28, 32)) == ["8", "0", "112", "128", "crisp"]
    assert place((600, 300)) == ["0", "32", "128", "64", "smooth"]
    wide = neighbour(1, path=save(tmp_path / "a.png", size=(600, 300)))
    pixels = tile(written(tmp_path, answer(neighbours=[wide]), ending=".png"), 0, 0)
    assert (pixels[32:96] == BLUE).all()
    assert (pixels[:32] == WHITE).all()
    assert (pixels[96:] == WHITE).all()


def test_nothing_but_pixels_leaves_a_file(tmp_path):
    where = Image.Exif()
    where[0x010E] = "a place"
    secrets = {"exif": where, "icc_profile": b"a place", "comment": b"a place"}
    noise = Image.effect_noise((400, 400), 50).convert("RGB")  # to be embedded as JPEG
    for name, image in {"a.jpg": noise, "a.png": Image.new("RGB", (400, 400), BLUE)}.items():
        image.save(tmp_path / name, **secrets)
        assert {"exif", "icc_profile"} <= set(Image.open(tmp_path / name).info)
        [found] = embedded(written(tmp_path, answer(path=str(tmp_path / name))))
        assert found.format == {"a.jpg": "JPEG", "a.png": "PNG"}[name]
        assert set(found.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_captions_of_a_sheet_stay_below_their_picture(tmp_path):
    found = [neighbour(i, "W" * 500, key="photos/" * 50) for i in range(12)]
    pixels = written(tmp_path, answer("W" * 500, found, query="m" * 500), ending=".png")
    assert pixels.shape[0] == sheet.MARGIN + 2 * sheet.LINE  # 10 in a line, and 2
    text = slice(sheet.MARGIN + sheet.TILE + 2, sheet.MARGIN + sheet.LINE - sheet.GAP)
    for column in range(10):
        left = sheet.FIRST + column * (sheet.TILE + sheet.GAP)
        assert (pixels[text, left - sheet.GAP + 2 : left - 1] == 255).all()
        assert (pixels[text, left : left + sheet.TILE] < 128).any()


def test_characters_that_the_font_lacks_are_replaced(tmp_path):
    def drawn(key):
        return written(tmp_path, answer(neighbours=[neighbour(1, key=key)]), ending=".png")

    assert np.array_equal(drawn("été 漢.jpg"), drawn("ete ?.jpg"))
    assert not np.array_equal(drawn("ete ?.jpg"), drawn("eta ?.jpg"))


def test_a_sheet_of_too_many_lines_is_refused(tmp_path):
    path = tmp_path / "g.png"
    path.write_bytes(b"old")
    with pytest.raises(UserError, match=r"200 lines .* 201; write a \.html"):
        gallery.write(str(path), [answer()] * 199 + [answer(neighbours=[neighbour(1)] * 11)])
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["g.png"]


@pytest.mark.parametrize("ending", [".html", ".png"])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, ending):
    path = tmp_path / f"g{ending}"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
            gallery.write(str(path), [answer()])
    with monkeypatch.context() as patch:
        patch.setattr(thumbnails, "thumbnail", stopped)
        with pytest.raises(KeyboardInterrupt):
            gallery.write(str(path), [answer()])
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]
    gallery.write(str(path), [answer()])
    assert path.read_bytes() != b"old"
