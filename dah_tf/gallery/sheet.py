"""Draws the gallery as one picture. Needs Pillow."""

import functools
import unicodedata

from PIL import Image, ImageDraw, ImageFont

from dah_tf.errors import UserError, shortened
from dah_tf.gallery import captions, palette, thumbnails

MAX_LINES = 200  # It is then about 40,000 pixels high and takes 0.25 GB.
PER_LINE = 10
TILE, GAP, MARGIN, FRAME = 128, 20, 24, 5
TEXT = 16  # This is the height of a line of a caption.
LINE = TILE + FRAME + 3 * TEXT + GAP
FIRST = MARGIN + TILE + 2 * GAP  # This is the left edge of the first neighbour.

PAPER, INK, SOFT, PALE, WRONG = (
    palette.LIGHT[name] for name in ("page", "text", "soft", "line", "wrong")
)


def write(file, answers):
    """Writes the picture as PNG to a binary file.

    Args:
        file: binary file that is open for writing.
        answers: the same as for `draw`.

    Raises:
        UserError: there are more than `MAX_LINES` lines of neighbours.
    """
    draw(answers).save(file, "PNG")


def draw(answers):
    """Draws the picture.

    Args:
        answers: the same as for `dah_tf.gallery.write`, with two additions. A query or a neighbour
            may have `pixels`, uint8 `(height, width, 1 or 3)`, instead of a `path`. A neighbour
            may have a bool `wrong`, and is then not judged by the labels.

    Returns:
        Pillow image, RGB.

    Raises:
        UserError: there are more than `MAX_LINES` lines of neighbours.
    """
    heights = [max(1, -(-len(answer["neighbours"]) // PER_LINE)) for answer in answers]
    if sum(heights) > MAX_LINES:
        raise UserError(
            f"a .png gallery holds {MAX_LINES} lines of {PER_LINE} neighbours, but these answers "
            f"need {sum(heights):,}; write a .html"
        )
    widest = max((len(answer["neighbours"]) for answer in answers), default=0)
    columns = min(max(widest, 2), PER_LINE)
    size = (FIRST + columns * (TILE + GAP) - GAP + MARGIN, MARGIN + max(1, sum(heights)) * LINE)
    sheet = _Sheet(size)
    if not answers:
        sheet.words(MARGIN, MARGIN, "no queries", INK)
    top = MARGIN
    for answer, height in zip(answers, heights, strict=True):
        sheet.row(top, answer)
        top += height * LINE
    return sheet.image


class _Sheet:
    """Draws on an empty image of `size`."""

    def __init__(self, size):
        self.image = Image.new("RGB", size, PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(size=13)
        # If many codes are equal, the same neighbours occur repeatedly. This holds 12 MB at most.
        self.thumbnail = functools.lru_cache(256)(thumbnails.thumbnail)
        self.drawable = functools.cache(self._drawable)
        self.missing = self._glyph("\U0010ffff")

    def row(self, top, answer):
        """Draws a query, and its neighbours in as many lines as they need."""
        if top > MARGIN:
            middle = top - GAP // 2
            self.draw.line((MARGIN, middle, self.image.width - MARGIN, middle), PALE)
        self.tile(MARGIN, top, answer, captions.shown(answer["query"]))
        self.frame(MARGIN, top, INK, 2)
        about = [(captions.shown(answer["query"]), INK), (captions.shown(answer["label"]), INK)]
        counts = captions.precision(answer)
        if counts:
            about.append((f"{counts[0]} of {counts[1]} right", SOFT))
        self.caption(MARGIN, top, about)
        if not answer["neighbours"]:
            self.words(FIRST, top + TILE // 2 - TEXT // 2, "no match", INK)
        for place, neighbour in enumerate(answer["neighbours"]):
            line, column = divmod(place, PER_LINE)
            left, high = FIRST + column * (TILE + GAP), top + line * LINE
            self.neighbour(left, high, neighbour, captions.is_wrong(answer, neighbour))

    def neighbour(self, left, top, neighbour, wrong):
        """Draws one neighbour. If it is wrong, it is framed and crossed."""
        name = captions.name(neighbour)
        self.tile(left, top, neighbour, name)
        self.frame(left, top, PALE, 1)
        if wrong:
            self.frame(left, top, WRONG, FRAME)
            self.cross(left, top)
        about = [
            (f"{neighbour['rank']} · distance {neighbour['distance']}", INK),
            (captions.shown(neighbour["label"]), INK),
            (name, SOFT),
        ]
        self.caption(left, top, about)

    def tile(self, left, top, shown, name):
        """Draws a picture in the middle of its square, or the reason why there is none."""
        try:
            if "pixels" in shown:
                image, _ = thumbnails.of_pixels(shown["pixels"], TILE, TILE)
            else:
                image, _ = self.thumbnail(shown["path"], TILE, TILE)
        except thumbnails.Unreadable as error:
            for line, text in enumerate((str(error), name)):
                self.words(left + 8, top + TILE // 2 + line * TEXT, text, SOFT, TILE - 16)
            return
        place = left + (TILE - image.width) // 2, top + (TILE - image.height) // 2
        self.image.paste(image, place)

    def frame(self, left, top, color, width):
        """Draws a frame around a tile. The frame does not cover the picture."""
        box = (left - width, top - width, left + TILE + width - 1, top + TILE + width - 1)
        self.draw.rectangle(box, outline=color, width=width)

    def cross(self, left, top):
        """Draws a crossed corner. It can be seen without colour, and the picture stays visible."""
        self.draw.rectangle((left, top, left + 25, top + 25), palette.WHITE)
        for ends in ((6, 19), (19, 6)):
            self.draw.line((left + 6, top + ends[0], left + 19, top + ends[1]), palette.BLACK, 4)

    def caption(self, left, top, lines):
        """Draws lines of `(text, color)` below a tile. Empty lines take no space."""
        high = top + TILE + FRAME + 1
        for text, color in lines:
            if text:
                self.words(left, high, text, color, TILE)
                high += TEXT

    def words(self, left, top, text, color, width=None):
        """Draws a line of text. It is shortened in the middle to fit `width` pixels."""
        text = "".join(map(self.drawable, text))
        if width:
            # Every glyph is at least 2 pixels wide, so longer text need not be measured.
            limit = min(len(text), width // 2)
            while (long := self.font.getlength(shortened(text, limit))) > width:
                limit = min(limit - 1, int(limit * width / long))
            text = shortened(text, limit)
        self.draw.text((left, top), text, color, self.font)

    def _drawable(self, character):
        """Returns the character, its base letter or "?", depending on what the font contains."""
        for candidate in (character, unicodedata.normalize("NFKD", character)[0]):
            if self._glyph(candidate) != self.missing:
                return candidate
        return "?"

    def _glyph(self, character):
        mask = self.font.getmask(character)
        return mask.size, bytes(mask)
