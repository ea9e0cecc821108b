"""Reports runs on one page: `python -m dah_tf.report RUNS... --output=DIR`.

RUNS are run folders, result files (evaluation.json or a copy of one), folders of many of either,
or pretrained:NAME. Writes DIR/report.html (one file, pictures inside), DIR/report.md and DIR/*.png.
"""

import sys

from absl import flags

from dah_tf import pretrained
from dah_tf.errors import UserError
from dah_tf.terminal import cli

FLAGS = flags.FLAGS


def define_flags():
    """Every flag of the command."""
    flags.DEFINE_string(
        "output", None, "output: the folder of the report. An earlier report in it is replaced."
    )
    flags.DEFINE_integer(
        "detailed",
        16,
        "detailed: the largest number of runs in a section that get pictures of their own.",
        0,
    )


def main(paths):
    from dah_tf import reporting

    if not paths:
        raise UserError("name the runs: python -m dah_tf.report RUNS... --output=DIR")
    if not FLAGS.output:
        raise UserError("name the report's folder: --output=DIR")
    count, problems = reporting.write(
        [pretrained.folder(each) for each in paths], FLAGS.output, FLAGS.detailed
    )
    for problem in problems:
        print(f"warning: {' '.join(problem.split())}", file=sys.stderr)
    print(f"{count} {'run is' if count == 1 else 'runs are'} shown in {FLAGS.output}/report.html")


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__, paths=True, keras=False)
