"""Damaged image files through an exported model, by TensorFlow's C API: no file may end a server.

`python fuzz_images.py MODEL FIRST COUNT PROGRESS` sends COUNT mutated files, each made from its
number alone. It prints a JSON object of counts, and writes to PROGRESS the number it has come to:
after a crash the files from there on are the ones to look at.
"""

import collections
import io
import json
import random
import resource
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from dah_tf.serving.c_api import SavedModel

BATCH = 50
PNG = b"\x89PNG\r\n\x1a\n"


def seeds():
    """Good image files, every format in its variants."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 4), np.uint8)
    y, x = np.mgrid[:24, :20]
    noise[..., :3] = noise[..., :3] // 8 + (x * 8 + y * 3)[..., None] % 224  # compressible
    alpha = Image.fromarray(noise)
    colour = alpha.convert("RGB")
    grey, palette = colour.convert("L"), colour.convert("P")
    depth = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    frames = {"save_all": True, "append_images": [colour.transpose(0), grey.convert("RGB")]}
    variants = [
        *[("JPEG", image, {}) for image in (colour, grey, colour.convert("CMYK"))],
        ("JPEG", colour, {"progressive": True}),
        ("JPEG", colour, {"subsampling": 2, "restart_marker_blocks": 2}),
        *[("PNG", image, {}) for image in (colour, grey, palette, alpha, depth)],
        ("PNG", colour.convert("1"), {}),
        ("PNG", palette, {"transparency": 3, "bits": 4}),
        *[("GIF", image, {}) for image in (colour, grey, palette)],
        ("GIF", palette, {"transparency": 3, "interlace": 1}),
        ("GIF", colour, {**frames, "loop": 0}),
        *[("BMP", image, {}) for image in (colour, grey, alpha, palette, colour.convert("1"))],
        ("WEBP", colour, {"lossless": True}),
        ("WEBP", colour, {"quality": 50}),
        ("WEBP", alpha, {"quality": 50}),
        ("WEBP", alpha, {"lossless": True, "exact": True}),
        ("WEBP", colour, frames),
    ]
    files = []
    for form, image, options in variants:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        files.append(buffer.getvalue())
    return files


def mutated(number, files):
    """A damaged file, always the same for the same number."""
    draw = random.Random(number)
    data = bytearray(draw.choice(files))
    for _ in range(draw.choice([1, 1, 1, 2, 3, 6])):
        if data:
            draw.choice(MUTATIONS)(data, draw, files)
    if data.startswith(PNG) and draw.random() < 0.7:
        data = with_checksums(bytes(data))
    return bytes(data)


def flip_bits(data, draw, _):
    for _ in range(draw.randint(1, 8)):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def set_byte(data, draw, _):
    data[draw.randrange(len(data))] = draw.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF])


def set_number(data, draw, _):
    """Sizes, offsets and lengths stand in the first bytes."""
    size = draw.choice("HI")
    value = draw.choice([0, 1, 2, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF, 5000])
    value &= 0xFFFF if size == "H" else 0xFFFFFFFF
    number = struct.pack(draw.choice("<>") + size, value)
    at = draw.randrange(min(len(data), 80))
    data[at : at + len(number)] = number


def cut(data, draw, _):
    del data[draw.randrange(len(data)) :]


def remove(data, draw, _):
    at = draw.randrange(len(data))
    del data[at : at + draw.randint(1, 40)]


def repeat(data, draw, _):
    at = draw.randrange(len(data))
    data[at:at] = data[at : at + draw.randint(1, 60)] * draw.randint(1, 4)


def insert(data, draw, _):
    at = draw.randrange(len(data))
    data[at:at] = draw.randbytes(draw.randint(1, 30))


def splice(data, draw, files):
    other = draw.choice(files)
    data[draw.randrange(len(data)) :] = other[draw.randrange(len(other)) :]


MUTATIONS = [flip_bits, flip_bits, set_byte, set_number, set_number, cut, remove, repeat, insert]
MUTATIONS += [splice]


def with_checksums(data):
    """A PNG whose chunks have right checksums, or the decoder would look no further."""
    at, parts = len(PNG), [PNG]
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        body = data[at + 4 : at + 8 + length]
        if len(body) < 4 + length:
            break
        parts += [data[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + length
    return b"".join(parts) + data[at:]


def main(model, first, count, progress):
    files, counts = seeds(), collections.Counter()
    first, end = int(first), int(first) + int(count)
    Path(progress).write_text("the good ones")
    with SavedModel(model) as served:
        good = served.run("serving_default", {"image_bytes": files})
        counts["good files refused"] = int((~good["valid"]).sum())
        for start in range(first, end, BATCH):
            Path(progress).write_text(str(start))
            batch = [mutated(number, files) for number in range(start, min(start + BATCH, end))]
            # A last good file: it must not suffer from the others.
            reply = served.run("serving_default", {"image_bytes": [*batch, files[0]]})
            valid = reply["valid"]
            counts["decoded"] += int(valid[:-1].sum())
            counts["refused"] += int((~valid[:-1]).sum())
            blank = ~reply["codes"].any(axis=1) & ~reply["probabilities"].any(axis=1)
            counts["refused with a code"] += int((~valid & ~blank).sum())
            counts["neighbour spoiled"] += int(
                not valid[-1] or (reply["codes"][-1] != good["codes"][0]).any()
            )
    counts["peak MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
