"""Trains a deep hash model: `python -m dah_tf.train --bits=36`.

Images with labels in; a model, its retrieval quality and a SavedModel out, all in --workdir.
The same command resumes a run that was stopped. Examples:

  python -m dah_tf.train --flagfile=configs/digits.cfg
  python -m dah_tf.train --flagfile=configs/cifar10_compact.cfg --bits=24
  python -m dah_tf.train --dataset=folder:photos --protocol=own --backbone=resnet50
"""

from absl import flags

from dah_tf.terminal import cli

FLAGS = flags.FLAGS


def define_flags():
    """Every flag of the command."""
    cli.data_flags()
    cli.model_flags()
    cli.training_flags()
    flags.DEFINE_boolean("describe", False, "Print the network instead of training it.")
    flags.DEFINE_boolean("json", False, "With --describe: print JSON.")


def main():
    from dah_tf.training import session

    if FLAGS.describe:
        print(session.describe(cli.namespace(), as_json=FLAGS.json))
        return 0
    return session.train(cli.namespace())


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__)
