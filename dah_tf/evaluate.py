"""Measures a trained model's retrieval quality: `python -m dah_tf.evaluate --workdir=DIR`.

Writes DIR/evaluation.json and DIR/examples.npz, and prints a table. The run's own data, protocol
and mirror setting are used unless --dataset, --data_dir, --protocol or --mirror name others; the
run's result is kept then, and --output names the file. So it is for a model that ships with
dah_tf, --workdir=pretrained:NAME. Queries are refused on which the run, or a run that it started
from, was trained.
"""

from absl import flags

from dah_tf.terminal import cli, settings

FLAGS = flags.FLAGS


def define_flags():
    """Every flag of the command."""
    settings.define(only=("workdir", "data_dir"))
    flags.DEFINE_string("dataset", None, "dataset: other images than the run's, of its classes.")
    flags.DEFINE_string("protocol", None, "protocol: another one than the run's.")
    flags.DEFINE_boolean(
        "mirror", None, "mirror: codes come from each image and its mirror image together."
    )
    flags.DEFINE_string(
        "output",
        None,
        "output: the result's file. By default it is DIR/evaluation.json. The retrieval examples "
        "go beside it.",
    )
    flags.DEFINE_string("note", None, "note: a text beside the figures. By default the run's.")
    flags.DEFINE_boolean(
        "encoding_time", False, "encoding_time: also times the encoding (DAH, Table 4)."
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
        print(f"the run has not ended: this is its checkpoint of step {result['run']['step']:,}")
    print(retrieval.table(result))
    print(f"written to {path}")


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__)
