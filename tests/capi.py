"""SavedModels through TensorFlow's C API: the C++ loader that TensorFlow Serving uses.

Needs the libraries of the installed TensorFlow, but never imports its Python package.

Run as a program: `python capi.py MODEL REQUESTS REPLIES`. REQUESTS holds a pickled list of pairs
(signature, dict of inputs); REPLIES gets a pickled dict of `signatures`, `replies` (a dict of
arrays each, or the error's text) and `modules`, the names of all imported modules.
"""

import ctypes
import importlib.util
import os
import pickle
import sys
from pathlib import Path

import numpy as np

STRING, STRING_SIZE = 7, 24  # the enumeration value, sizeof(TF_TString)
DTYPES = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    9: np.int64,
    10: np.bool_,
    STRING: np.object_,
}
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


class SavedModel:
    """A loaded SavedModel.

    Args:
        path: the SavedModel's folder.
        tag: str, the meta graph's tag.

    Attributes:
        signatures: dict, signature to a pair of dicts (inputs, outputs), each name to a tuple of
            tensor name, dtype and shape (-1 for an unknown length).

    Raises:
        RuntimeError: with TensorFlow's own message.
    """

    def __init__(self, path, tag="serve"):
        self._api = _library()
        self._status = self._api.TF_NewStatus()
        self._graph = self._api.TF_NewGraph()
        options, meta = self._api.TF_NewSessionOptions(), self._api.TF_NewBuffer()
        tags = (ctypes.c_char_p * 1)(tag.encode())
        self._session = self._checked(
            self._api.TF_LoadSessionFromSavedModel,
            *(options, None, os.fsencode(path), tags, 1, self._graph, meta),
        )
        contents = ctypes.cast(meta, ctypes.POINTER(_Buffer)).contents
        self.signatures = _signatures(ctypes.string_at(contents.data, contents.length))
        self._api.TF_DeleteBuffer(meta)
        self._api.TF_DeleteSessionOptions(options)

    def run(self, signature, inputs):
        """One call of a signature.

        Args:
            signature: str.
            inputs: dict, name to a NumPy array, or to a list of bytes for a string tensor.

        Returns:
            Dict, name to NumPy array.

        Raises:
            RuntimeError: with TensorFlow's own message.
        """
        takes, gives = self.signatures[signature]
        if takes.keys() != inputs.keys():
            raise RuntimeError(f"{signature} takes {sorted(takes)}, not {sorted(inputs)}")
        fed = [self._tensor(inputs[name], takes[name][1]) for name in takes]
        results = (ctypes.c_void_p * len(gives))()
        try:
            self._checked(
                self._api.TF_SessionRun,
                *(self._session, None),
                *(self._outputs(takes), (ctypes.c_void_p * len(fed))(*fed), len(fed)),
                *(self._outputs(gives), results, len(gives)),
                *(None, 0, None),
            )
            return {name: self._array(result) for name, result in zip(gives, results, strict=True)}
        finally:
            for tensor in (*fed, *filter(None, results)):
                self._delete(tensor)

    def close(self):
        self._checked(self._api.TF_DeleteSession, self._session)
        self._api.TF_DeleteGraph(self._graph)
        self._api.TF_DeleteStatus(self._status)

    def _checked(self, function, *arguments):
        result = function(*arguments, self._status)
        if self._api.TF_GetCode(self._status):
            raise RuntimeError(self._api.TF_Message(self._status).decode())
        return result

    def _outputs(self, tensors):
        outputs = (_Output * len(tensors))()
        for output, (name, *_) in zip(outputs, tensors.values(), strict=True):
            operation, _, index = name.partition(":")
            output.operation = self._api.TF_GraphOperationByName(self._graph, operation.encode())
            output.index = int(index)
        return outputs

    def _tensor(self, value, dtype):
        array = np.asarray(value, np.object_ if dtype == np.object_ else None)
        code = CODES[array.dtype]
        size = array.size * STRING_SIZE if code == STRING else array.nbytes
        dims = (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor = self._api.TF_AllocateTensor(code, dims, array.ndim, size)
        data = self._api.TF_TensorData(tensor)
        if code != STRING:
            ctypes.memmove(data, np.ascontiguousarray(array).ctypes.data, size)
            return tensor
        for i, text in enumerate(array.ravel()):
            self._api.TF_StringInit(data + i * STRING_SIZE)
            self._api.TF_StringCopy(data + i * STRING_SIZE, text, len(text))
        return tensor

    def _array(self, tensor):
        dtype = np.dtype(DTYPES[self._api.TF_TensorType(tensor)])
        shape = [self._api.TF_Dim(tensor, i) for i in range(self._api.TF_NumDims(tensor))]
        size = self._api.TF_TensorByteSize(tensor)
        contents = ctypes.string_at(self._api.TF_TensorData(tensor), size) if size else b""
        return np.frombuffer(contents, dtype).reshape(shape)

    def _delete(self, tensor):
        if self._api.TF_TensorType(tensor) == STRING:
            data = self._api.TF_TensorData(tensor)
            for i in range(self._api.TF_TensorElementCount(tensor)):
                self._api.TF_StringDealloc(data + i * STRING_SIZE)
        self._api.TF_DeleteTensor(tensor)


def _library():
    folder = Path(importlib.util.find_spec("tensorflow").origin).parent
    # Never RTLD_GLOBAL: its BoringSSL would hide the OpenSSL that Python's hashlib loads later.
    api = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"))
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
        ("TF_DeleteSessionOptions", None, [pointer]),
        ("TF_NewBuffer", pointer, []),
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


def _fields(message):
    """Fields of a serialised protocol buffer: pairs of number and value (int or bytes)."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        length = {1: 8, 5: 4}[kind] if kind != 2 else varint()
        yield key >> 3, message[at : at + length]
        at += length


def _signatures(meta_graph):
    """`SavedModel.signatures` from a serialised MetaGraphDef."""
    signatures = {}
    for number, entry in _fields(meta_graph):
        if number == 5:  # signature_def
            entry = dict(_fields(entry))
            tensors = {1: {}, 2: {}}  # inputs, outputs
            for side, value in _fields(entry[2]):
                if side in tensors:
                    value = dict(_fields(value))
                    tensors[side][value[1].decode()] = _tensor_info(value[2])
            signatures[entry[1].decode()] = tensors[1], tensors[2]
    signatures.pop("__saved_model_init_op", None)  # the loader's own, no tensors
    return signatures


def _tensor_info(message):
    info = dict(_fields(message))
    sizes = [dict(_fields(size)) for number, size in _fields(info.get(3, b"")) if number == 2]
    shape = tuple(np.int64(np.uint64(size.get(1, 0))).item() for size in sizes)
    return info[1].decode(), np.dtype(DTYPES[info[2]]) if 2 in info else None, shape


def main(path, requests, replies):
    model = SavedModel(path)
    answers = []
    for signature, inputs in pickle.loads(Path(requests).read_bytes()):
        try:
            answers.append(model.run(signature, inputs))
        except RuntimeError as error:
            answers.append(str(error))
    answer = {
        "signatures": model.signatures,
        "replies": answers,
        "modules": sorted(sys.modules),
    }
    Path(replies).write_bytes(pickle.dumps(answer))
    model.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
