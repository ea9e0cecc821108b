"""Puts a trained model into the package: `pretrained:NAME`.

    python tools/ready_made.py runs/cifar10-compact-36 cifar10-compact-36
    python -m dah_tf.evaluate --workdir=pretrained:cifar10-compact-36 --output=runs/ready.json
    cp runs/ready.json dah_tf/pretrained/cifar10-compact-36/evaluation.json

Kernels are stored as float16, vectors (biases, BatchNorm) as float32. The other commands replace
the run's figures by those of the weights that are shipped.
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from dah_tf import pretrained
from dah_tf.errors import UserError
from dah_tf.runs import runlog, workspace
from dah_tf.runs.recipe import SETTINGS
from dah_tf.training import build

LARGEST = 8_000_000  # bytes
SHIPPED = pathlib.Path(__file__).resolve().parent.parent / "dah_tf" / "pretrained"


def main(run, name):
    run, folder = pathlib.Path(run), SHIPPED / name
    model, step = build.load_run(run)
    if step is not None:
        raise UserError(f"{run} has not ended, it is at step {step:,}; train it to its end")
    content = json.loads((run / pretrained.FLAGS).read_text())
    content["flags"] = workspace.portable(content["flags"])
    local = {name for name, setting in SETTINGS.items() if setting.local}
    content["flags"].update(dict.fromkeys(local & content["flags"].keys()))
    folder.mkdir(exist_ok=True)
    workspace.write_json(folder / pretrained.FLAGS, content)
    last = runlog.last_record(run / pretrained.LAST)
    (folder / pretrained.LAST).write_text(json.dumps(last) + "\n")
    (folder / pretrained.RESULT).write_bytes((run / pretrained.RESULT).read_bytes())
    weights = {str(i): stored(np.asarray(w)) for i, w in enumerate(model.get_weights())}
    np.savez(folder / pretrained.WEIGHTS, **weights)
    size = (folder / pretrained.WEIGHTS).stat().st_size
    print(f"{folder} has {size:,} bytes of weights; now evaluate them, see --help")
    if size > LARGEST:
        raise UserError(f"{folder} has more than {LARGEST:,} bytes; do not commit it")


def stored(weight):
    """A weight as it is kept: kernels in half precision."""
    return weight.astype(np.float16) if weight.ndim > 1 else weight


if __name__ == "__main__":
    if len(sys.argv) != 3 or "--help" in sys.argv:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
