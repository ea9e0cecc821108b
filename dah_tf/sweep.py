"""Trains a grid of runs: `python -m dah_tf.sweep --output=DIR --grid=bits=12,24,36,48 ...`.

Any flag of dah_tf.train can stand in a --grid; the others are the same for every run. Finished
runs are skipped and begun ones resumed, so the same command goes on after any interruption; with
--cells=0::2 on one machine and --cells=1::2 on another two share the work. Example:

  python -m dah_tf.sweep --flagfile=configs/cifar10_compact.cfg --output=runs/table2 \\
      --grid=bits=12,24,36,48 --grid=backbone=compact:attention,compact --grid=seed=0,1,2

Values that hold a comma are separated by semicolons: --grid='method=dah:t=1,phi1=2;dpsh'.
"""

import pathlib
import sys

from absl import flags

from dah_tf.errors import UserError
from dah_tf.machine import backend
from dah_tf.runs import recipe
from dah_tf.runs.recipe import SETTINGS
from dah_tf.terminal import cli, settings

FLAGS = flags.FLAGS


def define_flags():
    """Every flag of the command: those of training, and its own."""
    settings.define()
    flags.DEFINE_string("output", None, "output: the sweep's folder; each run is a folder in it.")
    flags.DEFINE_multi_string(
        "grid", [], "grid: FLAG=VALUE,VALUE,... or FLAG=VALUE;VALUE;... It may be given often."
    )
    flags.DEFINE_string("cells", ":", "cells: which runs, START:STOP:STEP as in Python, or I,J,...")
    flags.DEFINE_boolean("dry_run", False, "dry_run: only lists the runs and their state.")


def main():
    from dah_tf.runs import grid, workspace

    backend.check()  # its runs would end by it, one by one
    if not FLAGS.output:
        raise UserError("name the sweep's folder: output=DIR")
    if FLAGS["workdir"].present:
        raise UserError("a sweep names its runs' folders itself: give output, not workdir")
    axes = grid.axes(FLAGS.grid)
    everything = grid.cells(axes, FLAGS.output)
    chosen = [everything[i] for i in grid.part(FLAGS.cells, len(everything))]
    arguments = [each for each in settings.given() if flag_of(each) not in axes]
    for name, values in axes.items():
        for value in values:
            check(name, value, arguments)
    for cell in chosen:
        recipe_of_cell = settings.parse([*arguments, *cell.arguments])
        workspace.resumed(cell.folder, recipe_of_cell)
        workspace.check_left_open(cell.folder, recipe_of_cell)
    failed = []
    if not FLAGS.dry_run:
        failed = run(chosen, arguments)
    rows = grid.summary(everything)
    print(grid.table(rows))
    for cell in failed:
        print(
            f"failed: {cell.title}; its errors are above, its log {cell.folder / 'train.log'}",
            file=sys.stderr,
        )
    path = pathlib.Path(FLAGS.output) / "sweep.json"
    try:
        if not FLAGS.dry_run:
            workspace.write_json(path, rows)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another output") from error
    return 1 if failed else 0


def flag_of(argument):
    """The name of the flag in `--name=value`, `--name` or `--noname`."""
    name = argument.removeprefix("--").partition("=")[0]
    return name if name in FLAGS else name.removeprefix("no")


def check(name, value, arguments):
    """Refuses a grid's value before anything is trained.

    Raises:
        UserError: no such flag of training, or not one of its values.
    """
    if name not in {*SETTINGS, *recipe.moved()} - {"workdir"}:
        raise UserError(f"grid={name}: training has no such flag; see dah_tf.train --help")
    try:
        settings.parse([*arguments, f"--{name}={value}"])
    except UserError as error:
        raise UserError(f"grid={name}: {error}") from error


def run(chosen, arguments):
    """Runs the cells that are not done; returns those that failed."""
    from dah_tf.runs import grid

    failed = []
    for number, cell in enumerate(chosen, 1):
        where = f"run {number} of {len(chosen)}: {cell.title}"
        if grid.is_done(cell):
            print(f"{where}: done before", flush=True)
        elif grid.is_busy(cell):
            print(f"{where}: another process trains it; left to that", flush=True)
        else:
            print(f"{where}: training in {cell.folder}", flush=True)
            try:
                code = grid.run(cell, arguments)
            except grid.Stopped:
                print(f"{where}: stopped; the same command resumes it", flush=True)
                sys.exit(0)
            if code or not grid.is_done(cell):
                failed.append(cell)
                print(f"{where}: failed with exit code {code}", flush=True)
    return failed


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__, keras=False)
