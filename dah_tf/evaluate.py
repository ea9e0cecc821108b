"""Measures a trained model's retrieval quality: `python -m dah_tf.evaluate --workdir=DIR`.

Writes DIR/evaluation.json and DIR/examples.npz, and prints a table. The run's own data and protocol
are used unless --dataset, --data_dir or --protocol name others; the run's result is kept then, and
--output names the file. So it is for a model that ships with dah_tf, --workdir=pretrained:NAME.
A protocol whose queries the run was trained on is refused.
"""

import pathlib

from absl import flags

from dah_tf import pretrained
from dah_tf.errors import UserError
from dah_tf.terminal import cli

FLAGS = flags.FLAGS


def define_flags():
    """Every flag of the command."""
    cli.workdir_flag()
    flags.DEFINE_string("dataset", None, "Other images than the run's; same classes.")
    flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps its data.")
    flags.DEFINE_string("protocol", None, "Another protocol than the run's.")
    flags.DEFINE_boolean("mirror", None, "Codes from each image and its mirror image together.")
    flags.DEFINE_string(
        "output",
        None,
        "The result's file; default DIR/evaluation.json. Its retrieval examples go beside it.",
    )
    flags.DEFINE_string("note", None, "Stands beside the figures; default the run's.")
    flags.DEFINE_boolean("encoding_time", False, "Also time the encoding (DAH, Table 4).")


def main():
    from dah_tf.evaluation import measure, retrieval
    from dah_tf.machine import devices
    from dah_tf.runs import workspace
    from dah_tf.training import build

    workdir = pretrained.folder(FLAGS.workdir)
    run = workspace.read_flags(workdir)
    own = run.protocol
    named = FLAGS.dataset not in (None, run.dataset)
    if not FLAGS.output and (
        named or pretrained.is_name(FLAGS.workdir) or FLAGS.protocol not in (None, own)
    ):
        raise UserError(f"{FLAGS.workdir} keeps its own figures; name a file: --output=FILE.json")
    for name in ("dataset", "data_dir", "protocol", "mirror"):
        if FLAGS[name].value is not None:
            setattr(run, name, FLAGS[name].value)
    facts = workspace.read_data_facts(workdir)
    run.image_size, run.channels = facts["image_size"], str(facts["channels"])
    model, step = build.load_model(workdir)
    dataset = build.load_data(run)
    workspace.check_classes(dataset, facts)
    if dataset.fingerprint != facts["fingerprint"] and not named:
        check_changed(dataset, own)
    training = build.trained_by(workdir, run, dataset)
    if training is None:
        run.validation = 0  # the run's was carved from its own data
    protocol = build.make_protocol(run, dataset, run.protocol)
    if not len(protocol.query):
        raise UserError(f"protocol {protocol.name} has no queries in {dataset.name}")
    trained = None  # the classes that the classifier knows: those that the protocol trains
    if training is None:  # on which images the run was trained is not known here
        trained = [] if own == "unseen" else range(dataset.num_classes)
    elif protocol.name != own:
        if known := build.trained_on(protocol, training):
            raise UserError(
                f"--protocol={protocol.name}: {known:,} of its {len(protocol.query):,} queries are "
                f"among the images that the run was trained on, by --protocol={own}; train a run "
                f"with --protocol={protocol.name}"
            )
        trained = dataset.labels[training.train]
    if step is not None:
        print(f"the run has not ended: this is its checkpoint of step {step:,}")
    result, pictures = measure.evaluate(model, dataset, protocol, run.mirror, trained)
    result["run"] = workspace.run_facts(workdir, step)
    if pretrained.is_name(FLAGS.workdir):
        result["run"]["name"] = FLAGS.workdir
    if FLAGS.note is not None:
        result["run"]["note"] = FLAGS.note
    path = pathlib.Path(FLAGS.output or pathlib.Path(workdir) / "evaluation.json")
    if FLAGS.encoding_time:
        result["encoding"] = measure.encoding_time(model, dataset, protocol.database, run.mirror)
        result["encoding"]["hardware"] = devices.hardware()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mine = path.name == "evaluation.json"
        examples = "examples.npz" if mine else f"{path.stem}.examples.npz"
        measure.write_examples(path.with_name(examples), pictures)
        workspace.write_json(path, result)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; choose another --output"
        ) from error
    print(retrieval.table(result))
    print(f"written to {path}")


def check_changed(dataset, protocol):
    """Refuses data that has changed since the run was trained, where its parts are drawn anew.

    Raises:
        UserError: they are, or the run's own result would be replaced.
    """
    if protocol != "full":
        raise UserError(
            f"{dataset.name} has changed since the run was trained, and --protocol={protocol} would "
            "draw other queries, some of them from its training images; restore the data, train "
            "anew, or name images kept apart: --dataset"
        )
    if not FLAGS.output:
        raise UserError(
            f"{dataset.name} has changed since {FLAGS.workdir} was trained, which keeps its own "
            "figures; name a file: --output=FILE.json"
        )


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__)
