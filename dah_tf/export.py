"""Writes a SavedModel: `python -m dah_tf.export --workdir=DIR --output=MODELS/dah/1`.

Its `serving_default` takes image bytes and returns packed codes; `pixels` takes uint8 images.
TF Serving serves MODELS/dah as it is. A run that has not ended is exported from its checkpoint.
"""

import json
import pathlib

from absl import flags

from dah_tf import options
from dah_tf.errors import UserError

FLAGS = flags.FLAGS


def define_flags():
    """Every flag of the command."""
    options.workdir_flag()
    flags.DEFINE_string("output", None, "The version's folder, such as models/dah/1.")
    flags.DEFINE_boolean("mirror", None, "Codes from each image and its mirror image together.")


def main():
    from dah_tf import workspace
    from dah_tf.serving import export

    run = workspace.read_flags(FLAGS.workdir)
    if not FLAGS.output:
        raise UserError("name the SavedModel's folder: --output=models/dah/1")
    model, step = workspace.load_model(FLAGS.workdir)
    facts = workspace.read_data_facts(FLAGS.workdir)
    scores = pathlib.Path(FLAGS.workdir) / "evaluation.json"
    export.save(
        model,
        FLAGS.output,
        flags=vars(run),
        metrics=json.loads(scores.read_text()) if scores.exists() else {},
        class_names=facts["class_names"],
        mirror=run.mirror if FLAGS.mirror is None else FLAGS.mirror,
    )
    where = "" if step is None else f" from the checkpoint of step {step:,}"
    print(f"{FLAGS.output}: SavedModel of {model.bits} bits{where}")


if __name__ == "__main__":
    define_flags()
    options.launch(main, __doc__)
