"""Draws pictures of one run (training, classes, examples) as PNG bytes, or None without data."""

import io

import numpy as np

from dah_tf.gallery import examples, palette
from dah_tf.reporting import canvas, collection, histories

QUERIES = 10
NAMED_CLASSES = 30
NUMBERED_CLASSES = 12


@canvas.drawing
def training(run):
    """Plots the terms of the loss, accuracy and validation MAP against images seen and time."""
    log = histories.read(run.folder / "metrics.jsonl") if run.folder else None
    if log is None:
        return None
    checks = histories.read(run.folder / "validation.jsonl", ["validation_map"])
    short = histories.smoothed(log)
    terms, accuracy = _terms(short), short.values.get("accuracy")
    rows = [("Term of the loss", short.step, terms)] if terms else []
    if accuracy is not None and canvas.is_line(accuracy):
        rows.append(("Training accuracy, %", short.step, {"accuracy": 100 * accuracy}))
    if checks and canvas.is_line(checks.values["validation_map"]):
        values = 100 * checks.values["validation_map"]
        rows.append(("Validation MAP, %", checks.step, {"validation": values}))
    if not rows:
        return None
    columns = _clocks(run, log)
    figure, axes = canvas.panels(
        len(rows) * len(columns), len(columns), panel=(5.2, 3.0), sharex="col", sharey="row"
    )
    looks = {name: style.line for name, style in canvas.styles(histories.terms(short)).items()}
    looks["accuracy"] = {"color": palette.BLUE}
    looks["validation"] = {"color": palette.BLUE, "marker": "o"}
    for index, axis in enumerate(axes):
        row, column = divmod(index, len(columns))
        title, steps, series = rows[row]
        label, where = columns[column]
        for name, values in series.items():
            axis.plot(where(steps), values, **looks[name])
        if series is terms:
            axis.set_yscale("log")
        if not column:
            axis.set_ylabel(title)
        if row == len(rows) - 1:
            axis.set_xlabel(label)
    if terms:
        canvas.legend(figure, list(terms), looks, columns=3)
    return canvas.png(figure)


def _clocks(run, log):
    """Returns the horizontal axes for training: a label and a function of steps for each."""
    scale = histories.images_per_step(run)
    name, scale = ("Images seen", scale) if scale else ("Steps", 1)
    label, images = canvas.scaled(name, log.step[-1] * scale, canvas.COUNTS)
    clocks = [(label, lambda steps: steps * scale / images)]
    hours = histories.hours(log, log.step)
    if hours is not None:
        label, unit = canvas.scaled("Training", hours[-1], canvas.TIMES)
        clocks.append((label, lambda steps: histories.hours(log, steps) / unit))
    return clocks


def _terms(history):
    """Returns the terms with two values above 0, as a line on a logarithmic axis needs them."""
    found = {}
    for name in histories.terms(history):
        values = np.where(history.values[name] > 0, history.values[name], np.nan)
        if canvas.is_line(values):
            found[name] = values
    return found


@canvas.drawing
def class_distances(run):
    """Draws a heat map of the mean Hamming distances between classes."""
    rows = collection.get(run.result, "class_distances")
    rows = [collection.numbers(row) for row in rows] if isinstance(rows, list) else []
    if not rows or any(row is None or len(row) != len(rows) for row in rows):
        return None
    matrix = np.array(rows)
    classes = collection.get(run.result, "per_class")
    names = [collection.text(row, "class") for row in classes] if isinstance(classes, list) else []
    if len(names) != len(matrix) or not all(names):
        names = [str(index) for index in range(len(matrix))]
    figure, [axis] = canvas.panels(1, panel=(7.2, 5.8))
    image = axis.imshow(matrix, cmap="cividis", vmin=0)
    axis.grid(visible=False)
    figure.colorbar(image, label="Mean Hamming distance, bits")
    if len(names) <= NAMED_CLASSES:
        labels = [canvas.plain(name, 16) for name in names]
        axis.set_xticks(range(len(names)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(names)), labels)
    axis.set(xlabel="Class", ylabel="Class")
    if len(names) <= NUMBERED_CLASSES:
        middle = np.nanmax(matrix) / 2 if not np.isnan(matrix).all() else 0
        for (row, column), value in np.ndenumerate(matrix):
            if not np.isnan(value):
                color = "white" if value < middle else "black"
                axis.text(
                    column, row, f"{value:.1f}", ha="center", va="center", color=color, fontsize=9
                )
    return canvas.png(figure)


def retrieval(found):
    """Draws Figs. 7 and 8: queries and nearest neighbours. Wrong ones are framed and crossed.

    Args:
        found: dict of arrays from `histories.examples`.
    """
    file = io.BytesIO()
    examples.picture(**{name: each[:QUERIES] for name, each in found.items()}).save(file, "PNG")
    return file.getvalue()
