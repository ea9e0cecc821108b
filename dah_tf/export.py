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

from absl import flags

from dah_tf import pretrained, runtimes
from dah_tf.errors import UserError
from dah_tf.machine import backend
from dah_tf.terminal import cli, settings

FLAGS = flags.FLAGS


def define_flags():
    """Every flag of the command."""
    settings.define(only=("workdir", "data_dir"))
    flags.DEFINE_string("output", None, "output: the folder of the version, as in models/dah/1.")
    flags.DEFINE_list(
        "format",
        ["savedmodel"],
        f"format: the formats that are written. There are {', '.join(runtimes.FORMATS)}.",
    )
    flags.DEFINE_boolean(
        "mirror",
        None,
        "mirror: a code is made from an image and its mirror image together. By default this is "
        "as in the run.",
    )


def main():
    from dah_tf.exporting import export, parity
    from dah_tf.runs import workspace
    from dah_tf.training import build

    formats = list(dict.fromkeys(runtimes.name_of(each) for each in FLAGS.format))
    if not formats:
        raise UserError(f"name a format: format={runtimes.SAVEDMODEL}")
    workdir = pretrained.folder(FLAGS.workdir)
    recipe = workspace.read_recipe(workdir)
    if not FLAGS.output:
        raise UserError("name the SavedModel's folder: output=models/dah/1")
    export.check(FLAGS.output, formats)
    model, step = build.load_run(workdir)
    facts = workspace.read_data_facts(workdir)
    mirror = recipe.mirror if FLAGS.mirror is None else FLAGS.mirror
    samples = None
    if formats != [runtimes.SAVEDMODEL]:
        known = {"image_size": facts["image_size"], "channels": facts["channels"]}
        if FLAGS.data_dir:
            known["data_dir"] = FLAGS.data_dir
        dataset, protocol = build.open_data(recipe.replace(**known))
        workspace.check_classes(dataset, facts)
        samples = parity.choose(dataset, protocol)
    description = export.save(
        model,
        FLAGS.output,
        flags=recipe.as_dict(),
        metrics=scores(workdir, step, mirror),
        class_names=facts["class_names"],
        mirror=mirror,
        formats=formats,
        samples=samples,
    )
    where = "" if step is None else f" from the checkpoint of step {step:,}"
    print(f"{FLAGS.output} contains a model of {model.bits} bits{where}")
    for name, written in description["formats"].items():
        print(f"  {name:<12} {', '.join(written['files'])}{_agreement(written)}")


def scores(workdir, step, mirror):
    """What a run's evaluation measured, or {} where that is of other codes than are exported.

    Args:
        workdir: path of the run's folder.
        step: int, the step of the exported weights; None is the run's last.
        mirror: bool; the exported codes come from images and their mirror images.
    """
    from dah_tf.runs import workspace

    path = pathlib.Path(workdir) / "evaluation.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    of = result.get("run", {}).get("step")
    same = of == workspace.run_facts(workdir, step)["step"]
    return result if same and result.get("mirror", mirror) == mirror else {}


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
    cli.launch(main, __doc__, backends=backend.EXPORTING)
