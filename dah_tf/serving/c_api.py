"""SavedModels through TensorFlow's C API, with the C++ loader that TensorFlow Serving uses.

This module needs the libraries of the installed TensorFlow, but does not import its Python package.
It loads a model in half a second. A model that can be loaded in Python may fail here, as it would
in a server.
"""

import contextlib
import ctypes
import functools
import importlib.util
import os
import sys
import threading
from pathlib import Path

import numpy as np

from dah_tf.errors import UserError
from dah_tf.machine import quiet
from dah_tf.serving import messages
from dah_tf.serving.failure import CODES, ServingError

STRING_SIZE = 24  # sizeof(TF_TString)


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


class SavedModel:
    """A loaded SavedModel. Several threads may share it.

    Args:
        path: path of the SavedModel's folder.
        tag: str, the tag of the meta graph.

    Attributes:
        signatures: dict of each signature to a pair of dicts, its inputs and its outputs. They map
            a name to a tuple of tensor name, NumPy dtype and shape. The dtype is None if it is not
            in `messages.DTYPES`. The shape has -1 for an unknown length, and is None if the rank
            is unknown.

    Raises:
        ServingError: TensorFlow cannot load the model. It has TensorFlow's code and message.
        UserError: TensorFlow is not installed.
    """

    def __init__(self, path, tag="serve"):
        self._session, self._calls, self._idle = None, 0, threading.Condition()
        self._api = _library()
        self._graph = self._api.TF_NewGraph()
        options, meta = self._api.TF_NewSessionOptions(), self._api.TF_NewBuffer()
        tags = (ctypes.c_char_p * 1)(tag.encode())
        # Otherwise TensorFlow would take all memory of a GPU, which a server may also use.
        config = messages.ConfigProto()
        config.gpu_options.allow_growth = True
        config = config.SerializeToString()
        try:
            self._checked(self._api.TF_SetConfig, options, config, len(config))
            self._session = self._checked(
                self._api.TF_LoadSessionFromSavedModel,
                *(options, None, os.fsencode(path), tags, 1, self._graph, meta),
            )
            contents = ctypes.cast(meta, ctypes.POINTER(_Buffer)).contents
            self.signatures = _signatures(ctypes.string_at(contents.data, contents.length))
        except BaseException:
            self._api.TF_DeleteGraph(self._graph)
            raise
        finally:
            self._api.TF_DeleteBuffer(meta)
            self._api.TF_DeleteSessionOptions(options)

    def run(self, signature, inputs, timeout=None):
        """Calls a signature.

        Args:
            signature: str.
            inputs: dict of name to NumPy array, or to a list of bytes for a string tensor.
            timeout: float, seconds, or None.

        Returns:
            Dict of name to NumPy array.

        Raises:
            ServingError: the call failed. The code and the message are TensorFlow's. The code is
                INVALID_ARGUMENT if the model does not have the signature or the inputs, and
                CANCELLED if the model is closed.
        """
        if signature not in self.signatures:
            raise ServingError("INVALID_ARGUMENT", f"the model has no signature {signature!r}")
        takes, gives = self.signatures[signature]
        if takes.keys() != inputs.keys():
            raise ServingError(
                "INVALID_ARGUMENT", f"{signature} takes {sorted(takes)}, not {sorted(inputs)}"
            )
        options = messages.RunOptions(timeout_in_ms=max(1, round((timeout or 0) * 1000)))
        options = options.SerializeToString()
        buffer = self._api.TF_NewBufferFromString(options, len(options)) if timeout else None
        fed = []
        results = (ctypes.c_void_p * len(gives))()
        try:
            for name, (_, dtype, _) in takes.items():
                fed.append(self._tensor(inputs[name], dtype))
            with self._open() as session:
                self._checked(
                    self._api.TF_SessionRun,
                    *(session, buffer),
                    *(self._outputs(takes), (ctypes.c_void_p * len(fed))(*fed), len(fed)),
                    *(self._outputs(gives), results, len(gives)),
                    *(None, 0, None),
                )
            return {name: self._array(result) for name, result in zip(gives, results, strict=True)}
        finally:
            for tensor in (*fed, *filter(None, results)):
                self._delete(tensor)
            if buffer:
                self._api.TF_DeleteBuffer(buffer)

    def close(self):
        """Frees the model when the calls in other threads have ended. It may be called again."""
        with self._idle:
            session, self._session = self._session, None
            self._idle.wait_for(lambda: not self._calls)
        if session:
            self._checked(self._api.TF_DeleteSession, session)
            self._api.TF_DeleteGraph(self._graph)

    @contextlib.contextmanager
    def _open(self):
        """Yields the session, which is not freed before the block ends."""
        with self._idle:
            if not self._session:
                raise ServingError("CANCELLED", "the model is closed")
            session = self._session
            self._calls += 1
        try:
            yield session
        finally:
            with self._idle:
                self._calls -= 1
                self._idle.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _checked(self, function, *arguments):
        status = self._api.TF_NewStatus()
        try:
            result = function(*arguments, status)
            code = self._api.TF_GetCode(status)
            if code:
                name = CODES[code] if code < len(CODES) else "UNKNOWN"
                raise ServingError(name, self._api.TF_Message(status).decode(errors="replace"))
            return result
        finally:
            self._api.TF_DeleteStatus(status)

    def _outputs(self, tensors):
        outputs = (_Output * len(tensors))()
        for output, (name, *_) in zip(outputs, tensors.values(), strict=True):
            operation, _, index = name.partition(":")
            output.operation = self._api.TF_GraphOperationByName(self._graph, operation.encode())
            output.index = int(index or 0)
            if not output.operation:
                raise ServingError("INVALID_ARGUMENT", f"the graph has no tensor {name!r}")
        return outputs

    def _tensor(self, value, dtype):
        array = np.asarray(value, np.object_ if dtype == np.object_ else None)
        if array.dtype not in messages.NUMBERS:
            raise ServingError("INVALID_ARGUMENT", f"arrays of {array.dtype} cannot be fed")
        number = messages.NUMBERS[array.dtype]
        if number == messages.STRING and not all(isinstance(text, bytes) for text in array.flat):
            raise ServingError("INVALID_ARGUMENT", "the input takes strings")
        size = array.size * STRING_SIZE if number == messages.STRING else array.nbytes
        dims = (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor = self._api.TF_AllocateTensor(number, dims, array.ndim, size)
        data = self._api.TF_TensorData(tensor)
        if number != messages.STRING:
            ctypes.memmove(data, np.ascontiguousarray(array).ctypes.data, size)
            return tensor
        for i, text in enumerate(array.flat):
            self._api.TF_StringInit(data + i * STRING_SIZE)
            self._api.TF_StringCopy(data + i * STRING_SIZE, text, len(text))
        return tensor

    def _array(self, tensor):
        number = self._api.TF_TensorType(tensor)
        if number not in messages.DTYPES or number == messages.STRING:
            raise ServingError("UNIMPLEMENTED", f"an output of TensorFlow's type number {number}")
        shape = [self._api.TF_Dim(tensor, i) for i in range(self._api.TF_NumDims(tensor))]
        size = self._api.TF_TensorByteSize(tensor)
        contents = ctypes.string_at(self._api.TF_TensorData(tensor), size) if size else b""
        return np.frombuffer(contents, messages.DTYPES[number]).reshape(shape)

    def _delete(self, tensor):
        if self._api.TF_TensorType(tensor) == messages.STRING:
            data = self._api.TF_TensorData(tensor)
            for i in range(self._api.TF_TensorElementCount(tensor)):
                self._api.TF_StringDealloc(data + i * STRING_SIZE)
        self._api.TF_DeleteTensor(tensor)


@functools.cache
def _library():
    found = importlib.util.find_spec("tensorflow")  # imports nothing
    if found is None or found.origin is None:
        raise UserError("TensorFlow is not installed: pip install 'tensorflow>=2.21,<2.22'")
    name = "libtensorflow_cc.2.dylib" if sys.platform == "darwin" else "libtensorflow_cc.so.2"
    path = Path(found.origin).parent / name
    # TensorFlow would log a warning for each broken image, which is an ordinary answer here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with quiet.quiet():
            # With RTLD_GLOBAL, its BoringSSL would hide the OpenSSL that hashlib loads later.
            api = ctypes.CDLL(str(path))
    except OSError as error:
        raise UserError(f"cannot load TensorFlow's library {path}: {error}") from error
    pointer, integer, size, text = (
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_size_t,
        ctypes.c_char_p,
    )
    for name, result, arguments in (
        ("TF_NewStatus", pointer, []),
        ("TF_DeleteStatus", None, [pointer]),
        ("TF_GetCode", integer, [pointer]),
        ("TF_Message", text, [pointer]),
        ("TF_NewGraph", pointer, []),
        ("TF_DeleteGraph", None, [pointer]),
        ("TF_NewSessionOptions", pointer, []),
        ("TF_SetConfig", None, [pointer, text, size, pointer]),
        ("TF_DeleteSessionOptions", None, [pointer]),
        ("TF_NewBuffer", pointer, []),
        ("TF_NewBufferFromString", pointer, [text, size]),
        ("TF_DeleteBuffer", None, [pointer]),
        (
            "TF_LoadSessionFromSavedModel",
            pointer,
            [pointer, pointer, text, pointer, integer, pointer, pointer, pointer],
        ),
        ("TF_DeleteSession", None, [pointer, pointer]),
        ("TF_GraphOperationByName", pointer, [pointer, text]),
        ("TF_AllocateTensor", pointer, [integer, pointer, integer, size]),
        ("TF_DeleteTensor", None, [pointer]),
        ("TF_TensorType", integer, [pointer]),
        ("TF_NumDims", integer, [pointer]),
        ("TF_Dim", ctypes.c_int64, [pointer, integer]),
        ("TF_TensorByteSize", size, [pointer]),
        ("TF_TensorElementCount", ctypes.c_int64, [pointer]),
        ("TF_TensorData", pointer, [pointer]),
        ("TF_StringInit", None, [pointer]),
        ("TF_StringCopy", None, [pointer, text, size]),
        ("TF_StringDealloc", None, [pointer]),
        (
            "TF_SessionRun",
            None,
            [pointer, pointer, pointer, pointer, integer]
            + [pointer, pointer, integer, pointer, integer, pointer, pointer],
        ),
    ):
        function = getattr(api, name)
        function.restype, function.argtypes = result, arguments
    return api


def _signatures(meta_graph):
    """Returns `SavedModel.signatures` from a serialised MetaGraphDef."""

    def specs(tensors):
        return {name: _spec(info) for name, info in sorted(tensors.items())}

    definitions = messages.MetaGraphDef.FromString(meta_graph).signature_def
    return {
        name: (specs(definition.inputs), specs(definition.outputs))
        for name, definition in sorted(definitions.items())
        if name != "__saved_model_init_op"  # it belongs to the loader and has no tensors
    }


def _spec(info):
    known = info.dtype in messages.DTYPES
    shape = tuple(dim.size for dim in info.tensor_shape.dim)
    return (
        info.name,
        np.dtype(messages.DTYPES[info.dtype]) if known else None,
        None if info.tensor_shape.unknown_rank else shape,
    )
