"""Lists of labelled image files, which are not decoded here."""

import pytest

from dah_tf.data import folders
from dah_tf.errors import UserError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"GIF89a")  # only the start of the file is read


def listed(root):
    """Returns the path below `root`, the class and the part of each file."""
    return [
        (path[len(str(root)) + 1 :], *labels, part)
        for path, labels, part in folders.from_folder(root).rows
    ]


def test_order_does_not_depend_on_how_the_folder_was_made(tmp_path):
    names = ["b/2", "b/10", "a/x/1", "a/z", "a/x/0", "B/1"]
    touch(tmp_path / "one", *names)
    touch(tmp_path / "two", *reversed(names))
    wanted = [
        ("B/1", "B"),
        ("a/x/0", "a"),
        ("a/x/1", "a"),
        ("a/z", "a"),
        ("b/10", "b"),
        ("b/2", "b"),
    ]
    for root in (tmp_path / "one", tmp_path / "two"):
        assert listed(root) == [(*row, "train") for row in wanted]


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    touch(tmp_path, "cat/1", "dog/1")
    entries = folders._entries

    def refuse(folder):
        if str(folder).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(folder))
        return entries(folder)

    monkeypatch.setattr(folders, "_entries", refuse)
    with pytest.raises(UserError, match="cannot read .*dog: Permission denied"):
        folders.from_folder(tmp_path)


def test_parts(tmp_path):
    touch(tmp_path, "train/a/1", "train/b/1", "test/b/2", "notes/c/1", "train/readme")
    assert listed(tmp_path) == [
        ("train/a/1", "a", "train"),
        ("train/b/1", "b", "train"),
        ("test/b/2", "b", "test"),
    ]


def test_train_and_test_may_be_classes(tmp_path):
    touch(tmp_path, "train/1", "test/1", "tram/1")
    assert [row[1] for row in listed(tmp_path)] == ["test", "train", "tram"]


def test_test_folders_alone_are_no_training_part(tmp_path):
    touch(tmp_path, "test/a/1", "test/b/1")
    with pytest.raises(UserError, match="train"):
        folders.from_folder(tmp_path)


def table(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode(encoding))
    return [(p[len(str(tmp_path)) + 1 :], *rest) for p, *rest in folders.from_csv(path).rows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("heading", ["path,label\n", "Path,Label,Split\n", ""])
def test_tables_of_other_programs(tmp_path, heading, end, encoding):
    text = f'{heading}a.png,ñandú,test\n"b, c.png"," x ; y "\n\n'.replace("\n", end)
    assert table(tmp_path, text, encoding) == [
        ("b, c.png", ["x", "y"], "train"),  # the training rows come first
        ("a.png", ["ñandú"], "test"),
    ]


def test_a_label_given_twice_counts_once(tmp_path):
    assert table(tmp_path, "a.png,x;y;x\n") == [("a.png", ["x", "y"], "train")]


def test_only_the_first_row_is_a_heading(tmp_path):
    assert table(tmp_path, "a.png,x\npath,y\n") == [
        ("a.png", ["x"], "train"),
        ("path", ["y"], "train"),
    ]


def test_absolute_paths_stay(tmp_path):
    (tmp_path / "list.csv").write_text("/elsewhere/a.png,x\n")
    assert folders.from_csv(tmp_path / "list.csv").rows == [("/elsewhere/a.png", ["x"], "train")]


def test_line_numbers_are_the_files(tmp_path):
    # A quoted cell contains a line break, so that the third row begins on line 4.
    with pytest.raises(UserError, match=r"list\.csv:4: the row has no label"):
        table(tmp_path, 'path,label\n"a\n.png",x\nb.png\n')


def test_tables_that_are_none(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        table(tmp_path, "a.png,x\n", "utf-16")
    with pytest.raises(UserError, match=str(tmp_path)):
        folders.from_csv(tmp_path)
