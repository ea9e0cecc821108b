"""Checks a model before it is served: `python -m dah_tf.serving check MODELS/dah`.

It finds the version that TensorFlow Serving would serve, loads it with TensorFlow's C++ loader,
and runs its warm-up requests through every signature. The exit code is 0 for a good model. It is 1
for a faulty one, with one line for each fault. It is 2 if the folder does not exist or the command
is wrong.
"""

import json

from absl import flags

from dah_tf import pretrained
from dah_tf.errors import UserError
from dah_tf.terminal import cli

FLAGS = flags.FLAGS


def define_flags():
    """Defines the flags of the command."""
    flags.DEFINE_boolean("json", False, "json: prints the result as one JSON object.")


def main(arguments):
    if len(arguments) != 2 or arguments[0] != "check":
        raise UserError("name the model to check: python -m dah_tf.serving check models/dah")
    from dah_tf.serving import check

    report = check.check(pretrained.exported(arguments[1]))
    print(json.dumps(report, indent=2) if FLAGS.json else "\n".join(check.table(report)))
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__, paths=True, keras=False)
