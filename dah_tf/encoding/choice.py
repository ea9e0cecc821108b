"""The fastest of a model's runtimes on this machine."""

import importlib.metadata
import time

import numpy as np

from dah_tf import runtimes
from dah_tf.encoding.encoder import BATCH, Encoder, equal_codes, find_model

ROUNDS = 3


def fastest(path, batch_size=BATCH, say=print):
    """Times the exported formats that are installed and give equal codes, and takes the fastest.

    Those whose codes differed when the model was exported take no part, nor those whose codes
    differ here, on the images of the timing.

    Args:
        path: as of `Encoder`.
        batch_size: int, images at a time.
        say: function of str, told what was taken and by how much it is faster.

    Returns:
        `Encoder`.

    Raises:
        UserError: no such model, or none of its runtimes is installed.
    """
    folder, description = find_model(path)
    names = [name for name in runtimes.present(folder) if equal_codes(name, description)]
    installed = [name for name in names if not runtimes.missing(runtimes.get(name).PACKAGES)]
    encoders = [Encoder(folder, name) for name in installed or [None]]
    if len(encoders) == 1:
        return encoders[0]
    size, channels = description["image_size"], description["channels"]
    images = np.random.default_rng(0).integers(0, 256, (batch_size, size, size, channels), np.uint8)
    codes = [encoder(images)["codes"] for encoder in encoders]
    encoders = [
        encoder
        for encoder, found in zip(encoders, codes, strict=True)
        if np.array_equal(found, codes[0])
    ]
    seconds = [[] for _ in encoders]
    for _ in range(ROUNDS):
        for encoder, taken in zip(encoders, seconds, strict=True):
            start = time.perf_counter()
            encoder(images)
            taken.append(time.perf_counter() - start)
    best = [min(taken) for taken in seconds]
    chosen = int(np.argmin(best))
    runtime = runtimes.get(encoders[chosen].runtime)
    others = [
        f"{best[place] / best[chosen]:.2f} times as fast as {runtimes.get(each.runtime).TITLE}"
        for place, each in enumerate(encoders)
        if place != chosen
    ]
    version = importlib.metadata.version(runtime.PACKAGES[0])
    say(f"runtime: {runtime.TITLE} {version}, equal codes; {', '.join(others) or 'no other'}")
    return encoders[chosen]
