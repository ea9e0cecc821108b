"""Specs of parts: reading, checking against a factory's signature, comparing."""

import pytest

from dah_tf import parts
from dah_tf.errors import UserError


def box(size, *, widths: tuple[int, ...] = (1, 2), depth: int = 2, wide: bool = False):
    return size, widths, depth, wide


def jar(*, t: float | None = None, name: str = "x"):
    return t, name


TABLE = {"box": box, "jar": jar, "lazy": "textwrap:dedent"}


def test_builds_with_typed_values():
    assert parts.build("toy", "box:widths=3/4/5,wide", TABLE, 7) == (7, (3, 4, 5), 2, True)
    assert parts.build("toy", "jar:t=1e-3,name=a b", TABLE) == (1e-3, "a b")
    assert parts.build("toy", "jar:t=none", TABLE) == (None, "x")
    assert parts.build("toy", "lazy", TABLE, "  a") == "a"


def test_a_spec_written_out_has_every_option_and_reads_back():
    text = parts.resolved("toy", "box:depth=3", TABLE)
    assert text == "box:widths=1/2,depth=3,wide=false"
    assert parts.resolved("toy", text, TABLE) == text
    assert parts.resolved("toy", "jar", TABLE) == "jar:t=none,name=x"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("bag", "there is no toy 'bag'; there are box, jar, lazy"),
        ("box:height=3", "toy box has no option 'height'; its options are widths, depth, wide"),
        ("box:size=3", "has no option 'size'"),
        ("box:depth=two", "toy box: depth=two is not a whole number"),
        ("box:widths=3/x", "widths=3/x is not a whole number"),
        ("box:wide=maybe", "is not true or false"),
        ("jar:t=nan", "is not a finite number"),
        ("jar:t=inf", "is not a finite number"),
        ("box:", "not of the form"),
        ("box:depth=", "not of the form"),
        ("box:depth=1,depth=2", "not of the form"),
        (":depth=1", "not of the form"),
        ("", "not of the form"),
    ],
)
def test_refuses(text, reason):
    with pytest.raises(UserError, match="toy|form") as caught:
        parts.build("toy", text, TABLE, 7)
    assert reason in str(caught.value)


def test_later_arguments_win_and_another_name_starts_over():
    one = parts.parse("box:depth=3,wide")
    assert str(one.merged(parts.parse("box:depth=4"))) == "box:depth=4,wide=true"
    assert str(one.merged(parts.parse("jar"))) == "jar"


@pytest.mark.parametrize(
    "given, recorded, same",
    [
        ("box", "box:depth=3", True),
        ("box:depth=3.0", "box:depth=3", True),
        ("box:depth=4", "box:depth=3", False),
        ("box:height=4", "box:depth=3", False),
        ("jar", "box:depth=3", False),
        ("box:wide", "box:wide=True", True),
        ("box:widths=64/128", "box:widths=64/128", True),
        ("jar:t=none", "jar:t=none", True),
        ("jar:t=1", "jar:t=none", False),
    ],
)
def test_agreement_with_what_was_recorded(given, recorded, same):
    assert parts.agree(parts.parse(given), parts.parse(recorded)) is same
