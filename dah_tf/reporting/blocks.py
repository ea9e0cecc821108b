"""Represents a page as a list of blocks, and writes it as HTML or as Markdown.

Names and notes come from files, so both writers escape all text that they receive.
"""

import base64
import dataclasses
import html
import re

from dah_tf.gallery import palette

EMPTY = "—"
NUMBER = r"[-<>]? ?\d[\d,.-]*( [±–(].*)?"  # It also matches a date.
WIDE = 30  # Texts of this many characters get a wide column.
MARK = "dah_tf.report"
PUBLISHED = "Published, not measured here"


@dataclasses.dataclass
class Heading:
    """A heading of level 1 to 3. With `anchor` the list of contents can link to it."""

    level: int
    text: str
    anchor: str = None


@dataclasses.dataclass
class Paragraph:
    text: str


@dataclasses.dataclass
class Bullets:
    items: list


@dataclasses.dataclass
class Contents:
    """Links to the headings of the page. Each is `(anchor, text)`."""

    links: list


@dataclasses.dataclass
class Plain:
    """Text in columns, which is kept unchanged."""

    text: str


@dataclasses.dataclass
class Cell:
    """A value and, in smaller type, its limits. None stands for an absent value."""

    text: str
    below: str = None

    def __str__(self):
        return f"{self.text} ({self.below})" if self.below else self.text


@dataclasses.dataclass
class Table:
    """Rows of cells. A cell that is None is visibly empty.

    Attributes:
        caption: str, the caption of the table.
        header: list of str, the heads of the columns.
        rows: list of lists of str, `Cell` or None. Each list is as long as `header`.
        published: rows in the same form, with values of others. They are shown separately below.
    """

    caption: str
    header: list
    rows: list
    published: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Picture:
    """A PNG file. `alt` describes it to readers who cannot see it."""

    name: str
    png: bytes
    alt: str
    caption: str


def clean(text):
    """Returns one printable line, without control characters and halves of characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def to_html(blocks, title):
    """Writes a self-contained page. It embeds its pictures, has no scripts and fetches nothing."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="generator" content="{MARK}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def to_markdown(blocks):
    """Writes the page as text. Pictures are links to files beside it."""
    return f"<!-- {MARK} -->\n\n" + "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _escaped(text):
    return html.escape(clean(text))


def _html(block):
    match block:
        case Heading(level, text, anchor):
            mark = f' id="{anchor}"' if anchor else ""
            return f"<h{level}{mark}>{_escaped(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_escaped(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{_escaped(item)}</li>" for item in items) + "</ul>"
        case Contents(links):
            items = "".join(f'<li><a href="#{a}">{_escaped(text)}</a></li>' for a, text in links)
            return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'
        case Plain(text):
            lines = "\n".join(_kept(line) for line in text.split("\n"))
            return f'<pre tabindex="0">{html.escape(lines)}</pre>'
        case Picture(_, png, alt, caption):
            source = "data:image/png;base64," + base64.b64encode(png).decode()
            width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
            return (
                f'<figure><div tabindex="0"><img src="{source}" alt="{_escaped(alt)}" width="{width}" '
                f'height="{height}"></div><figcaption>{_escaped(caption)}</figcaption></figure>'
            )
        case Table():
            return _html_table(block)
    raise TypeError(f"Not a block: {block!r}")


def _html_table(table):
    right = _right_aligned(table)
    head = "".join(
        f'<th scope="col"{_class(number)}>{_escaped(cell)}</th>'
        for cell, number in zip(table.header, right, strict=True)
    )
    rows = [_html_row(row, right) for row in table.rows]
    if table.published:
        rows.append(f'<tr class="divider"><th colspan="{len(right)}">{PUBLISHED}</th></tr>')
        rows += [_html_row(row, right, ' class="published"') for row in table.published]
    return (
        f'<div class="scroll" tabindex="0"><table><caption><span>{_escaped(table.caption)}</span></caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>"
    )


def _html_row(row, right, kind=""):
    shown = [f'<th scope="row">{_inner(row[0])}</th>']
    shown += [
        f"<td{_class(number, len(str(cell)) > WIDE)}>{_inner(cell)}</td>"
        for cell, number in zip(row[1:], right[1:], strict=True)
    ]
    return f"<tr{kind}>{''.join(shown)}</tr>"


def _inner(cell):
    """Returns the HTML of a cell."""
    if cell is None:
        return f'<span class="empty">{EMPTY}</span>'
    if isinstance(cell, Cell) and cell.below:
        return f"{_escaped(cell.text)} <small>{_escaped(cell.below)}</small>"
    return _escaped(cell)


def _class(number, wide=False):
    return ' class="number"' if number else ' class="wide"' if wide else ""


def _right_aligned(table):
    """Returns which columns contain only numbers."""
    rows = [*table.rows, *table.published]
    columns = [[row[index] for row in rows] for index in range(len(table.header))]
    return [
        index > 0 and all(cell is None or re.fullmatch(NUMBER, str(cell)) for cell in column)
        for index, column in enumerate(columns)
    ]


def _kept(line):
    return "".join(c if c.isprintable() else " " for c in line)


def _marked(text):
    """Escapes text for Markdown, and for the HTML that Markdown may contain."""
    text = html.escape(clean(text), quote=False)
    text = re.sub(r"([\\`*\[\]|$~])", r"\\\1", text)
    # An underscore inside a word has no special meaning in Markdown, and many names contain it.
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


def _markdown(block):
    match block:
        case Heading(level, text, _):
            return f"{'#' * level} {_marked(text)}"
        case Paragraph(text):
            return _marked(text)
        case Bullets(items):
            return "\n".join(f"- {_marked(item)}" for item in items)
        case Contents(links):
            return "\n".join(f"- {_marked(text)}" for _, text in links)
        case Plain(text):
            # The fence is longer than any in the text, so the text cannot close it.
            longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
            fence = "`" * max(3, longest + 1)
            return "\n".join([fence + "text", *(_kept(line) for line in text.split("\n")), fence])
        case Picture(name, _, alt, caption):
            return f"![{_marked(alt)}]({name})\n\n{_marked(caption)}"
        case Table():
            return _markdown_table(block)
    raise TypeError(f"Not a block: {block!r}")


def _markdown_table(table):
    rules = ["---:" if number else "---" for number in _right_aligned(table)]
    rows = [[EMPTY if cell is None else _marked(cell) for cell in row] for row in table.rows]
    if table.published:
        rows.append([f"**{PUBLISHED}**", *[""] * (len(rules) - 1)])
        rows += [[EMPTY if c is None else _marked(c) for c in row] for row in table.published]
    lines = [[_marked(cell) for cell in table.header], rules, *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{_marked(table.caption)}**\n\n{text}"


STYLE = (
    f"\n{palette.css()}"
    + """\
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 80rem; margin: 0 auto; padding: 1rem; }
a { color: var(--link); }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.4rem; line-height: 1.3; margin-top: 3rem; border-bottom: 2px solid var(--text);
  overflow-wrap: anywhere; }
h3 { font-size: 1.1rem; margin-top: 2.2rem; }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: separate; border-spacing: 0; font-size: .9rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
caption span { display: block; max-width: min(52rem, calc(100vw - 2rem)); }
th, td { padding: .3rem .5rem; text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid var(--text); vertical-align: bottom; }
tbody th, td { border-bottom: 1px solid var(--line); }
tbody th { font-weight: 500; min-width: 6rem; max-width: 20rem; overflow-wrap: break-word; }
td { max-width: 24rem; }
.wide { min-width: 9rem; }
small { display: block; font-size: .8rem; color: var(--soft); }
.empty { color: var(--soft); }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
thead .number { white-space: normal; min-width: 3.2rem; }
.divider th { font-weight: 600; max-width: none; padding-top: .8rem;
  border-bottom: 1px solid var(--text); }
.published th, .published td { background: var(--shade); }
pre { overflow-x: auto; background: var(--shade); padding: .8rem; font-size: .8rem;
  line-height: 1.4; }
figure { margin: 1.5rem 0; }
figure div { overflow-x: auto; }
img { max-width: 100%; min-width: 32rem; height: auto; }
figcaption { font-size: .9rem; max-width: 46rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  thead th:first-child, tbody th { position: sticky; left: 0; background: var(--page); }
  tbody th { max-width: 9rem; }
  .divider th { position: static; }
  td:not(.number) { min-width: 8rem; }
}
@media print {
  main { max-width: none; padding: 0; }
  body { font-size: 10pt; }
  .scroll, pre, figure div { overflow: visible; }
  pre { white-space: pre-wrap; }
  img { min-width: 0; }
  table { font-size: 8pt; }
  th, td { padding: .15rem .35rem; }
  tr, figure { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
  nav { display: none; }
}
"""
)
