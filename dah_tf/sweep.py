"""Trains a grid of runs: `python -m dah_tf.sweep --output=DIR --grid=bits=12,24,36,48 ...`.

Any flag of dah_tf.train can stand in a --grid; the others are the same for every run. Finished
runs are skipped and begun ones resumed, so the same command goes on after any interruption; with
--cells=0::2 on one machine and --cells=1::2 on another two share the work. Example:

  python -m dah_tf.sweep --flagfile=configs/cifar10_compact.cfg --output=runs/table2 \\
      --grid=bits=12,24,36,48 --grid=attention=true,false --grid=seed=0,1,2
"""

import pathlib
import sys

from absl import flags

from dah_tf.errors import UserError
from dah_tf.terminal import cli

FLAGS = flags.FLAGS
OWN = ("output", "grid", "cells", "dry_run")


def define_flags():
    """Every flag of the command: those of training, and its own."""
    cli.data_flags()
    cli.model_flags()
    cli.training_flags()
    flags.DEFINE_string("output", None, "The sweep's folder; each run is a folder in it.")
    flags.DEFINE_multi_string("grid", [], "FLAG=VALUE,VALUE,...; may be given several times.")
    flags.DEFINE_string("cells", ":", "Which runs: START:STOP:STEP as in Python, or I,J,...")
    flags.DEFINE_boolean("dry_run", False, "Only list the runs and their state.")


def main():
    from dah_tf.runs import grid, workspace

    if not FLAGS.output:
        raise UserError("name the sweep's folder: --output=DIR")
    if FLAGS["workdir"].present:
        raise UserError("a sweep names its runs' folders itself: give --output, not --workdir")
    axes = grid.axes(FLAGS.grid)
    parsed = {name: {value: parse(name, value) for value in axes[name]} for name in axes}
    everything = grid.cells(axes, FLAGS.output)
    chosen = [everything[i] for i in grid.part(FLAGS.cells, len(everything))]
    others = {name: FLAGS[name] for name in sorted(cli.own_flags() - {*OWN, *axes})}
    defaults = {name: flag.default for name, flag in others.items()}
    for cell in chosen:
        own = {name: parsed[name][value] for name, value in cell.settings.items()}
        changed = workspace.changed_flags(
            cell.folder, {**{name: flag.value for name, flag in others.items()}, **own}, defaults
        )
        if changed:
            raise UserError(
                f"{cell.folder} holds a run with other flags: {'; '.join(changed)}; use another "
                "--output"
            )
    failed = []
    if not FLAGS.dry_run:
        failed = run(chosen, [flag.serialize() for flag in others.values() if flag.present])
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
        raise UserError(
            f"cannot write {path}: {error.strerror}; choose another --output"
        ) from error
    return 1 if failed else 0


def parse(name, value):
    """A grid's value as its flag reads it.

    Raises:
        UserError: no such flag of training, or not one of its values.
    """
    if name in (*OWN, "workdir", "flagfile") or name not in cli.own_flags():
        raise UserError(f"--grid={name}: training has no such flag; see dah_tf.train --help")
    try:
        return FLAGS[name].parser.parse(value)
    except (ValueError, TypeError) as error:
        raise UserError(f"--grid={name}: {error}") from error


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
