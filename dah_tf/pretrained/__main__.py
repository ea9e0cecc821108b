"""Builds a ready-made model's work folder: `python -m dah_tf.pretrained NAME FOLDER`."""

import json
import os
import pathlib
import shutil
import tempfile

import numpy as np

from dah_tf import durable, options, pretrained
from dah_tf.errors import UserError


def main(arguments):
    if len(arguments) != 2 or arguments[0] not in pretrained.names():
        raise UserError(f"name one of {', '.join(pretrained.names())}, and a folder to make")
    name, output = arguments[0], pathlib.Path(arguments[1])
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=output.parent) as hidden:
            made = pathlib.Path(hidden) / output.name
            build(pretrained.SHIPPED / name, made)
            for folder, _, files in os.walk(made):
                for file in (*files, "."):
                    durable.sync(pathlib.Path(folder, file))
            try:
                os.rename(made, output)
            except OSError:
                if not output.is_dir():  # else another process was first
                    raise
            durable.sync(output.parent)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from error


def build(shipped, made):
    """Makes the folder of a run from what is shipped of it."""
    from dah_tf import assembly, workspace
    from dah_tf.serving import export

    made.mkdir()
    for part in (pretrained.FLAGS, pretrained.RESULT, pretrained.LAST):
        shutil.copyfile(shipped / part, made / part)
    run, facts = workspace.read_flags(made), workspace.read_data_facts(made)
    keep = ("num_classes", "channels", "image_size", "multi_label")
    model = assembly.build_model(run, **{name: facts[name] for name in keep}, weights=False)
    with np.load(shipped / pretrained.WEIGHTS) as stored:
        model.set_weights([stored[str(number)] for number in range(len(model.weights))])
    model.save(made / "model.keras")
    export.save(
        model,
        made / "export" / "1",
        class_names=facts["class_names"],
        mirror=run.mirror,
        flags=vars(run),
        metrics=json.loads((made / pretrained.RESULT).read_text()),
    )


if __name__ == "__main__":
    options.launch(main, __doc__, paths=True)
