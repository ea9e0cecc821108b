"""Chooses the fastest runtime of a model on this machine."""

import time

import numpy as np

from dah_tf import runtimes
from dah_tf.encoding.encoder import Encoder, equal_codes, find_model
from dah_tf.errors import UserError

ROUNDS = 3


def fastest(path, batch_size=runtimes.BATCH, say=print):
    """Measures the speed of the exported formats, and takes the fastest.

    Only formats whose runtimes are installed are measured. A format is left out if its codes
    differed when the model was exported, or if they differ now on random images; `say` is told.

    Args:
        path: as in `Encoder`.
        batch_size: int, the number of images in a batch.
        say: function that gets a line of text about what was left out, and one about the choice.

    Returns:
        `Encoder`.

    Raises:
        UserError: there is no such model, no format gives its codes, or none of the runtimes is
            installed.
    """
    folder, description = find_model(path)
    present = runtimes.present(folder)
    names = [name for name in present if equal_codes(name, description)]
    _say_left_out(say, "at the export", [name for name in present if name not in names])
    if not names:
        raise UserError(
            f"no format in {folder} gives exactly the codes of the model; name one: "
            f"runtime={next(iter(present), runtimes.SAVEDMODEL)}"
        )
    installed = [name for name in names if not runtimes.missing(runtimes.get(name).PACKAGES)]
    encoders = [Encoder(folder, name) for name in installed or names[:1]]
    size, channels = description["image_size"], description["channels"]
    images = np.random.default_rng(0).integers(0, 256, (batch_size, size, size, channels), np.uint8)
    codes = [encoder(images)["codes"] for encoder in encoders]
    equal = [np.array_equal(found, codes[0]) for found in codes]
    differing = [each.runtime for each, same in zip(encoders, equal, strict=True) if not same]
    _say_left_out(say, "on this machine", differing)
    encoders = [encoder for encoder, same in zip(encoders, equal, strict=True) if same]
    seconds = [[] for _ in encoders]
    for _ in range(ROUNDS if len(encoders) > 1 else 0):
        for encoder, taken in zip(encoders, seconds, strict=True):
            start = time.perf_counter()
            encoder(images)
            taken.append(time.perf_counter() - start)
    best = [min(taken, default=0.0) for taken in seconds]
    chosen = encoders[int(np.argmin(best))]
    runtime = runtimes.get(chosen.runtime)
    text = f"runtime: {runtime.TITLE} {runtimes.version(runtime.PACKAGES[0])}"
    rivals = [
        f"{taken / min(best):.2f} times as fast as {runtimes.get(each.runtime).TITLE}"
        for each, taken in zip(encoders, best, strict=True)
        if each is not chosen
    ]
    say(", ".join([text, "equal codes", *rivals] if rivals else [text]))
    return chosen


def _say_left_out(say, where, names):
    if names:
        titles = ", ".join(runtimes.get(name).TITLE for name in names)
        say(f"left out, because their codes differ from the model's {where}: {titles}")
