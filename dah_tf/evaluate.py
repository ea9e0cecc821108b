"""Measures a trained model's retrieval quality: `python -m dah_tf.evaluate --workdir=DIR`.

Writes DIR/evaluation.json and DIR/examples.npz, and prints a table. By default it uses the data,
the protocol and the mirror setting of the run. If --dataset, --data_dir, --protocol or --mirror
name others, --output must name another file, so that the result of the run is not replaced. A
model that comes with dah_tf (--workdir=pretrained:NAME) also needs --output. The command refuses
queries on which the run was trained, or a run from which its backbone came.
"""

from absl import flags

from dah_tf.terminal import cli, settings

FLAGS = flags.FLAGS


def define_flags():
    """Defines the flags of the command."""
    settings.define(only=("workdir", "data_dir"))
    flags.DEFINE_string(
        "dataset",
        None,
        "dataset: a data set with the same classes, whose images are used. By default it is that "
        "of the run.",
    )
    flags.DEFINE_string(
        "protocol",
        None,
        "protocol: the rule that chooses the queries and the database. By default it is that of "
        "the run.",
    )
    flags.DEFINE_boolean(
        "mirror",
        None,
        "mirror: a code is made from an image and its mirror image together. By default this is "
        "as in the run.",
    )
    flags.DEFINE_string(
        "output",
        None,
        "output: the file of the result. By default it is DIR/evaluation.json. The retrieval "
        "examples are written next to it.",
    )
    flags.DEFINE_string(
        "note",
        None,
        "note: a text that is shown with the figures. By default it is that of the run.",
    )
    flags.DEFINE_boolean(
        "encoding_time",
        False,
        "encoding_time: also measures how long the encoding takes (Table 4 of the DAH paper).",
    )


def main():
    from dah_tf.evaluation import retrieval
    from dah_tf.training import evaluating

    result, path = evaluating.write(
        FLAGS.workdir,
        output=FLAGS.output,
        dataset=FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        protocol=FLAGS.protocol,
        mirror=FLAGS.mirror,
        note=FLAGS.note,
        encoding_time=FLAGS.encoding_time,
    )
    steps = result["run"]["steps"]
    if steps and result["run"]["step"] < steps:
        print(
            f"the run has not ended; its checkpoint of step {result['run']['step']:,} was evaluated"
        )
    print(retrieval.table(result))
    print(f"the result was written to {path}")


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__)
