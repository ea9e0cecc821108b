"""Runs a SavedModel through TensorFlow's C API, in a process that imports no TensorFlow.

`python capi.py MODEL REQUESTS REPLIES`: REQUESTS holds a pickled list of pairs (signature, dict of
inputs); REPLIES gets a pickled dict of `signatures`, `replies` (a dict of arrays each, or the
error's text) and `modules`, the names of all imported modules.
"""

import pickle
import sys
from pathlib import Path

from dah_tf.serving.c_api import SavedModel
from dah_tf.serving.failure import ServingError


def main(path, requests, replies):
    answers = []
    with SavedModel(path) as model:
        for signature, inputs in pickle.loads(Path(requests).read_bytes()):
            try:
                answers.append(model.run(signature, inputs))
            except ServingError as error:
                answers.append(str(error))
    answer = {
        "signatures": model.signatures,
        "replies": answers,
        "modules": sorted(sys.modules),
    }
    Path(replies).write_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
