"""Trains a deep hash model: `python -m dah_tf.train --bits=36`.

Images with labels go in; a model, its retrieval quality and a SavedModel come out, all in
--workdir. The same command resumes a run that was stopped. Examples:

  python -m dah_tf.train --flagfile=configs/digits.cfg
  python -m dah_tf.train --flagfile=configs/cifar10_compact.cfg --bits=24
  python -m dah_tf.train --dataset=folder:photos --backbone=compact

A part is a name with options: --backbone=compact:depth=3 --method=dah:t=12.5,balance_weight=30.
"""

from absl import flags

from dah_tf.errors import UserError
from dah_tf.terminal import cli, settings

FLAGS = flags.FLAGS


def define_flags():
    """Every flag of the command."""
    settings.define()
    flags.DEFINE_boolean("describe", False, "describe: prints the network and does not train it.")
    flags.DEFINE_boolean("json", False, "json: prints the output of --describe as JSON.")


def main():
    from dah_tf.training import session

    recipe = settings.recipe()
    if FLAGS.json and not FLAGS.describe:
        raise UserError("--json needs --describe; give both, or leave out --json")
    if FLAGS.describe:
        print(session.describe(recipe, as_json=FLAGS.json))
        return
    session.train(recipe, stop_on_sigterm=True, say=lambda text: print(text, flush=True))


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__)
