"""Image files of every kind that TensorFlow's decoder reads, made of photographs by Pillow."""

import io
import struct

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

PHOTOGRAPHS = load_sample_images().images


def encoded(image, form, mode=None, **options):
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, form, **options)
    return buffer.getvalue()


def crops(count, low=8, high=48, seed=0):
    rng = np.random.default_rng(seed)
    for i in range(count):
        photograph = PHOTOGRAPHS[i % 2]
        height, width = rng.integers(low, high, 2)
        top = rng.integers(photograph.shape[0] - height)
        left = rng.integers(photograph.shape[1] - width)
        yield photograph[top : top + height, left : left + width]


PHOTO = next(crops(1, 30, 40))


def one_bit(image):
    return image.convert("1")


def with_alpha(image):
    alpha = np.arange(image.size[0] * image.size[1]).astype(np.uint8).reshape(image.size[::-1])
    return Image.merge("RGBA", (*image.split(), Image.fromarray(alpha)))


ODD = {
    "png": lambda image: encoded(image, "PNG"),
    "png, grey": lambda image: encoded(image, "PNG", mode="L"),
    "png, palette": lambda image: encoded(image, "PNG", mode="P"),
    "png, one bit": lambda image: encoded(one_bit(image), "PNG"),
    "png, alpha": lambda image: encoded(with_alpha(image), "PNG"),
    "png, grey with alpha": lambda image: encoded(with_alpha(image), "PNG", mode="LA"),
    "png, few colours": lambda image: encoded(image.quantize(7), "PNG"),
    "gif": lambda image: encoded(image, "GIF"),
    "gif, grey": lambda image: encoded(image, "GIF", mode="L"),
    "bmp": lambda image: encoded(image, "BMP"),
    "bmp, palette": lambda image: encoded(image, "BMP", mode="P"),
    "bmp, grey": lambda image: encoded(image, "BMP", mode="L"),
    "bmp, alpha": lambda image: encoded(with_alpha(image), "BMP"),
    "webp, lossless": lambda image: encoded(image, "WEBP", lossless=True),
    "webp, lossy": lambda image: encoded(image, "WEBP", quality=80),
    "webp, alpha": lambda image: encoded(with_alpha(image), "WEBP", lossless=True, exact=True),
    "jpeg, grey": lambda image: encoded(image, "JPEG", mode="L"),
}


def tagged(orientation, order, more=(), jfif=True):
    """A JPEG with EXIF tags of little ("<") or big (">") byte order."""
    entries = sorted([(0x0112, 3, 1, orientation), *more])
    head = b"II*\0" if order == "<" else b"MM\0*"
    tags = b"Exif\0\0" + head + struct.pack(f"{order}IH", 8, len(entries))
    for tag, kind, count, value in entries:
        tags += struct.pack(f"{order}HHIHH", tag, kind, count, value, 0)
    tags += b"\0\0\0\0"
    contents = encoded(PHOTO, "JPEG", quality=90)
    begin = 20  # behind the start of the image and JFIF's own 18 bytes
    assert contents[2:4] == b"\xff\xe0" and contents[begin] == 255
    segment = b"\xff\xe1" + struct.pack(">H", len(tags) + 2) + tags
    return contents[: begin if jfif else 2] + segment + contents[begin:]
