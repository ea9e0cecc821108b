"""Trains a grid of runs: `python -m dah_tf.sweep --output=DIR --grid=bits=12,24,36,48 ...`.

Each --grid names a flag of dah_tf.train and its values. The other flags are the same for all runs.
If the sweep is interrupted, run the same command again. It skips the finished runs and resumes the
others. Two machines divide the work with --cells=0::2 on the first and --cells=1::2 on the second.
Example:

  python -m dah_tf.sweep --flagfile=configs/cifar10_compact.cfg --output=runs/table2 \\
      --grid=bits=12,24,36,48 --grid=backbone=compact:attention,compact --grid=seed=0,1,2 --final

If values contain commas, separate them with semicolons: --grid='method=dah:t=1,phi1=2;dpsh'.

A grid of more than bits and seed is a search for settings: it sees the validation images only, and
neither evaluates nor exports its runs. --final evaluates them on the queries, once nothing is
chosen any more. It also continues with the runs of a search in the same folder.
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
    """Defines the flags of the command: those of the training, and its own."""
    settings.define()
    flags.DEFINE_string(
        "output", None, "output: the folder of the sweep, in which each run has a folder."
    )
    flags.DEFINE_multi_string(
        "grid",
        [],
        "grid: a flag and its values, as FLAG=VALUE,VALUE,... or FLAG=VALUE;VALUE;... It can be "
        "given several times, once for each flag.",
    )
    flags.DEFINE_string(
        "cells",
        ":",
        "cells: the numbers of the runs that are trained, counted from 0, as START:STOP:STEP in "
        "Python or as I,J,... By default all runs are trained.",
    )
    flags.DEFINE_boolean("dry_run", False, "dry_run: only lists the runs and their states.")
    flags.DEFINE_boolean(
        "final",
        False,
        "final: the runs are evaluated on the queries, also if the grid varies more than bits and "
        "seed. Without it, such a sweep is a search that sees the validation images only.",
    )


def main():
    from dah_tf.runs import grid, workspace

    backend.check()  # otherwise every run of the sweep would fail by this check
    if not FLAGS.output:
        raise UserError("name the sweep's folder: output=DIR")
    if FLAGS["workdir"].present:
        raise UserError("a sweep chooses the folders of its runs; give output in place of workdir")
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
    searching = grid.searches(axes) and not FLAGS.final
    evaluated = not searching and settings.parse(arguments).evaluate
    failed = []
    if not FLAGS.dry_run:
        if searching:
            print("The sweep searches for settings: runs see no query without --final", flush=True)
        own = ["--noevaluate", "--noexport"] if searching else []
        failed = run(chosen, [*arguments, *own], evaluated)
    rows = grid.summary(everything, evaluated)
    print(grid.table(rows))
    for cell in failed:
        print(
            f"this run failed: {cell.title}; its errors are shown above, and its log is "
            f"{cell.folder / 'train.log'}",
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
    """Returns the name of the flag in `--name=value`, `--name` or `--noname`."""
    name = argument.removeprefix("--").partition("=")[0]
    return name if name in FLAGS else name.removeprefix("no")


def check(name, value, arguments):
    """Refuses a wrong value in a grid before anything is trained.

    Raises:
        UserError: training has no such flag, or the flag does not allow the value.
    """
    if name not in {*SETTINGS, *recipe.moved()} - {"workdir"}:
        raise UserError(f"grid={name}: training has no such flag; see dah_tf.train --help")
    try:
        settings.parse([*arguments, f"--{name}={value}"])
    except UserError as error:
        raise UserError(f"grid={name}: {error}") from error


def run(chosen, arguments, evaluated):
    """Runs the cells that are not done yet. Returns those that failed."""
    from dah_tf.runs import grid

    failed = []
    for number, cell in enumerate(chosen, 1):
        where = f"run {number} of {len(chosen)} ({cell.title})"
        if grid.is_done(cell, evaluated):
            print(f"{where} was done before", flush=True)
        elif grid.is_busy(cell):
            print(f"{where} is left to another process, which is training it", flush=True)
        else:
            print(f"{where} is being trained in {cell.folder}", flush=True)
            try:
                code = grid.run(cell, arguments)
            except grid.Stopped:
                print(f"{where} was stopped; the same command resumes it", flush=True)
                sys.exit(0)
            if code or not grid.is_done(cell, evaluated):
                failed.append(cell)
                print(f"{where} failed with exit code {code}", flush=True)
    return failed


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__, keras=False)
