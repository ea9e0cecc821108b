"""Writes a SavedModel: `python -m dah_tf.export --workdir=DIR --output=MODELS/dah/1`.

Its `serving_default` takes image bytes and returns packed codes; `pixels` takes uint8 images.
TF Serving serves MODELS/dah as it is. A run that has not ended is exported from its checkpoint.

  --format=savedmodel,onnx,openvino,openvino_bf16,openvino_int8,litert,litert_int8
      also for these runtimes, in one folder

Each of the others is held against the model on 1,000 of the run's images: dah.json says how many
bits differ, and for bfloat16 and int8 (whose ranges come from training images) what MAP loses.
"""

import json
import pathlib
import types

from absl import flags

from dah_tf import pretrained, runtimes
from dah_tf.errors import UserError
from dah_tf.terminal import cli

FLAGS = flags.FLAGS


def define_flags():
    """Every flag of the command."""
    cli.workdir_flag()
    flags.DEFINE_string("output", None, "The version's folder, such as models/dah/1.")
    flags.DEFINE_list("format", ["savedmodel"], f"Any of {', '.join(runtimes.FORMATS)}.")
    flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps its data.")
    flags.DEFINE_boolean("mirror", None, "Codes from each image and its mirror image together.")


def main():
    from dah_tf.exporting import export, parity
    from dah_tf.runs import workspace
    from dah_tf.training import build

    formats = list(dict.fromkeys(FLAGS.format))
    for name in formats:
        runtimes.get(name)
    if not formats:
        raise UserError(f"name a format: --format={runtimes.SAVEDMODEL}")
    workdir = pretrained.folder(FLAGS.workdir)
    run = workspace.read_flags(workdir)
    if not FLAGS.output:
        raise UserError("name the SavedModel's folder: --output=models/dah/1")
    export.check(FLAGS.output, formats)
    model, step = build.load_model(workdir)
    facts = workspace.read_data_facts(workdir)
    samples = None
    if formats != [runtimes.SAVEDMODEL]:
        run.data_dir = FLAGS.data_dir or run.data_dir
        data = vars(run) | {"image_size": facts["image_size"], "channels": str(facts["channels"])}
        dataset, protocol = build.open_data(types.SimpleNamespace(**data))
        workspace.check_classes(dataset, facts)
        samples = parity.choose(dataset, protocol)
    description = export.save(
        model,
        FLAGS.output,
        flags=vars(run),
        metrics=scores(workdir, step),
        class_names=facts["class_names"],
        mirror=run.mirror if FLAGS.mirror is None else FLAGS.mirror,
        formats=formats,
        samples=samples,
    )
    where = "" if step is None else f" from the checkpoint of step {step:,}"
    print(f"{FLAGS.output}: {model.bits} bits{where}")
    for name, written in description["formats"].items():
        print(f"  {name:<12} {', '.join(written['files'])}{_agreement(written)}")


def scores(workdir, step):
    """What a run's evaluation measured, if of the weights of this step (None: its last); or {}."""
    from dah_tf.runs import workspace

    path = pathlib.Path(workdir) / "evaluation.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    of = result.get("run", {}).get("step")
    return result if of == workspace.run_facts(workdir, step)["step"] else {}


def _agreement(facts):
    """How a format agrees with the model, as text."""
    if "images" not in facts:
        return ""
    text = "equal codes"
    if facts["bits_differing"]:
        text = f"{facts['bits_differing']:.3%} of bits differ"
    text = f", {text} on {facts['images']:,} images"
    if "map" in facts:
        ours, theirs = facts["map"]["model"], facts["map"]["format"]
        text += f", MAP {100 * theirs:.2f} instead of {100 * ours:.2f}"
    return text


if __name__ == "__main__":
    define_flags()
    cli.launch(main, __doc__)
