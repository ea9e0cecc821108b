"""Writes the gallery as one HTML page with embedded pictures and no scripts. Needs Pillow."""

import base64
import html
import io
import re

from dah_tf.errors import shortened
from dah_tf.gallery import captions, palette, thumbnails

TILE = 128  # in units of the page
SHARP = 160  # A reduced picture has this longer side in pixels, for dense screens.
NAME, LABEL = 40, 60  # the longest texts, in characters


def write(file, answers):
    """Writes the page to a binary file, one picture after another.

    Args:
        file: binary file that is open for writing.
        answers: the same as for `dah_tf.gallery.write`.
    """
    page = _Page()
    file.write(_head(answers).encode())
    for number, answer in enumerate(answers):
        for part in page.section(number, answer):
            file.write(part.encode())
    file.write(b"</main>\n</body>\n</html>\n")


def _head(answers):
    queries, found = len(answers), sum(len(answer["neighbours"]) for answer in answers)
    about = f"{_count(queries, 'query', 'queries')}, {_count(found, 'neighbour', 'neighbours')}"
    counts = [each for each in map(captions.precision, answers) if each]
    if queries > 1 and len(counts) == queries:
        mean = sum(right / n for right, n in counts) / queries
        about += f"; mean precision {mean:.3g}"
    legend = ""
    if any(map(captions.judged, answers)):
        legend = (
            f'<p class="legend"><span class="tile wrong">{CROSS}</span> '
            "A frame and a cross mark a neighbour that is not of the query's class.</p>\n"
        )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Nearest images: {about}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<main>\n<h1>Nearest images</h1>\n<p>{about}</p>\n{legend}"
    )


class _Page:
    """Writes the sections of the queries. Every picture is embedded where it first appears."""

    def __init__(self):
        self.numbers = {}  # This maps each path to the number of its picture.

    def section(self, number, answer):
        """Yields the parts of a query's section, because a radius search can find thousands."""
        name = captions.shown(answer["query"])
        label = captions.shown(answer["label"])
        alt = f"query {name}" + (f", {label}" if label else "")
        about = [f'<h2 id="q{number}">{_short(name, NAME)}</h2>']
        if label:
            about.append(f'<p class="label">{_short(label, LABEL)}</p>')
        counts = captions.precision(answer)
        if counts:
            right, n = counts
            about.append(
                f"<p>{right} of {_count(n, 'neighbour', 'neighbours')} of its class: "
                f"precision {right / n:.3g}</p>"
            )
        yield (
            f'<section aria-labelledby="q{number}">\n<header>\n'
            f"{self.tile(answer['path'], name, alt, 'query')}\n"
            f"<div>{''.join(about)}</div>\n</header>\n"
        )
        if answer["neighbours"]:
            yield '<ol role="list">\n'
            for neighbour in answer["neighbours"]:
                yield self.item(answer, neighbour)
            yield "</ol>\n"
        else:
            yield '<p class="match">no match</p>\n'
        yield "</section>\n"

    def item(self, answer, neighbour):
        """Returns a neighbour's picture and caption."""
        wrong = captions.is_wrong(answer, neighbour)
        name, label = captions.name(neighbour), captions.shown(neighbour["label"])
        place = f"{neighbour['rank']} · distance {neighbour['distance']}"
        alt = f"neighbour {neighbour['rank']}, distance {neighbour['distance']}"
        alt += f", {label}" if label else ""
        alt += f", wrong class: {name}" if wrong else f": {name}"
        lines = [f'<p class="place">{place}</p>']
        if label:
            lines.append(f'<p class="label">{_short(label, LABEL)}</p>')
        lines.append(f'<p class="name">{_short(name, NAME)}</p>')
        tile = self.tile(neighbour["path"], name, alt, "wrong" if wrong else "")
        return f"<li>{tile}{''.join(lines)}</li>\n"

    def tile(self, path, name, alt, kind):
        """Returns a square with a picture, or with the reason why there is none."""
        try:
            inner, more = self.picture(path), ""
        except thumbnails.Unreadable as error:
            more = " none"
            inner = f"<span><b>{error}</b> {_short(name, NAME)}</span>"
        else:
            inner = (
                f'<svg class="picture" viewBox="0 0 {TILE} {TILE}" role="img" '
                f'aria-label="{html.escape(alt)}">{inner}</svg>'
            )
        if more and kind == "wrong":
            inner += '<span class="unseen">wrong class</span>'
        return f'<div class="tile {kind}{more}">{inner}{CROSS if kind == "wrong" else ""}</div>'

    def picture(self, path):
        """Returns SVG of a file's picture, or a reference to its earlier copy on the page."""
        if path in self.numbers:
            return f'<use href="#p{self.numbers[path]}"/>'
        image, crisp = thumbnails.thumbnail(path, TILE, SHARP)
        scale = 1 if crisp else TILE / max(image.size)
        width, height = image.width * scale, image.height * scale
        number = self.numbers[path] = len(self.numbers)
        return (
            f'<image id="p{number}" x="{(TILE - width) / 2:g}" y="{(TILE - height) / 2:g}" '
            f'width="{width:g}" height="{height:g}" class="{"crisp" if crisp else "smooth"}" '
            f'href="{_data(image, crisp)}"/>'
        )


def _data(image, crisp):
    """Returns a data: URI: PNG for sharp pixels or if it is smaller, otherwise JPEG."""
    forms = []
    for kind, how in (("png", {}), ("jpeg", {"quality": 80})):
        if kind == "png" or not crisp:
            buffer = io.BytesIO()
            image.save(buffer, kind, **how)
            forms.append((len(buffer.getvalue()), kind, buffer.getvalue()))
    _, kind, data = min(forms)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _short(text, limit):
    """Shortens a text. It isolates the text's direction, and its title holds the full text."""
    # The text is cut before it is escaped, so that escapes such as &amp; stay whole.
    words = re.findall(r"[^/;]*[/;]|[^/;]+", shortened(text, limit))
    short = "<wbr>".join(map(html.escape, words))
    return f'<bdi title="{html.escape(text)}">{short}</bdi>'


def _count(n, one, many):
    return f"{n:,} {one if n == 1 else many}"


# A crossed corner can be seen without colour, and the picture stays visible.
CROSS = (
    '<svg class="cross" viewBox="0 0 26 26" aria-hidden="true"><path d="M0 0H26V26H0Z" '
    f'fill="{palette.WHITE}"/><path d="M7 7L19 19M19 7L7 19" stroke="{palette.BLACK}" '
    'stroke-width="4"/></svg>'
)

STYLE = (
    f"\n{palette.css()}"
    + """\
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 110rem; margin: 0 auto; padding: 1rem clamp(.8rem, 2vw, 2rem);
  --tile: clamp(5.6rem, 25vw, 8rem); }
h1 { font-size: 1.5rem; line-height: 1.2; margin: .3rem 0; }
h2 { font-size: 1rem; margin: .5rem 0 0; overflow-wrap: anywhere; }
p { margin: 0; overflow-wrap: anywhere; }
section { display: grid; grid-template-columns: var(--tile) 1fr; gap: 1rem 2rem;
  border-top: 1px solid var(--line); margin-top: 1rem; padding-top: .9rem; }
header, li { padding-top: 6px; }
header p, li p { font-size: .85rem; }
ol { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .8rem 1.1rem; }
li { width: var(--tile); }
.tile { position: relative; display: block; width: var(--tile); height: var(--tile);
  margin-bottom: .5rem; outline: 1px solid var(--line); }
.query { outline: 2px solid var(--text); }
.wrong { outline: 5px solid var(--wrong); }
.picture { display: block; width: 100%; height: 100%; }
.crisp { image-rendering: pixelated; }
.cross { position: absolute; left: 0; top: 0; width: 20%; height: 20%; }
.none { display: flex; align-items: flex-end; padding: .5rem; overflow: hidden;
  font-size: .8rem; line-height: 1.25; color: var(--soft); overflow-wrap: anywhere; }
.none:not(.query, .wrong) { outline-style: dashed; outline-color: var(--soft); }
.none b { display: block; }
.place { font-variant-numeric: tabular-nums; }
.label { font-weight: 600; }
.name { color: var(--soft); }
.match { font-size: 1.2rem; font-weight: 600; align-self: center; }
.legend { display: flex; align-items: center; gap: .8rem; margin: .6rem 5px; font-size: .9rem; }
.legend .tile { width: 1.6rem; height: 1.6rem; margin: 0; flex: none; }
.legend .cross { width: 100%; height: 100%; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
@media (max-width: 44rem) {
  section { grid-template-columns: 1fr; }
  header { display: flex; gap: 1rem; align-items: center; }
  header .tile { flex: none; margin: 2px; }
}
@media screen and (min-width: 88rem) {
  main { --tile: min(8rem, (100vw - 17rem) / 11); } /* the query and ten neighbours in one row */
}
@media print {
  main { max-width: none; padding: 5px; --tile: 6.2rem; }
  body, h2 { font-size: 9pt; }
  header p, li p, .none { font-size: 8pt; }
  header, li { break-inside: avoid; }
  h1, h2 { break-after: avoid; }
}
"""
)
