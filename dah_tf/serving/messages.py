"""The few protocol buffers of TensorFlow Serving that are needed here, without TensorFlow.

They have the field numbers and types of TensorFlow's own, so both read each other's bytes. They
live in a pool of their own: TensorFlow's may be imported beside them. A field that is not listed
is kept when a message is read and written again.
"""

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SCHEMA = {
    # tensorflow/core/framework
    "Dim": ["int64 size = 1"],
    "TensorShapeProto": ["repeated Dim dim = 2", "bool unknown_rank = 3"],
    "TensorProto": [
        "int32 dtype = 1",  # an enumeration there, which is encoded alike
        "TensorShapeProto tensor_shape = 2",
        "bytes tensor_content = 4",
        "repeated float float_val = 5",
        "repeated double double_val = 6",
        "repeated int32 int_val = 7",
        "repeated bytes string_val = 8",
        "repeated int64 int64_val = 10",
        "repeated bool bool_val = 11",
    ],
    # tensorflow/core/protobuf
    "GPUOptions": ["bool allow_growth = 4"],
    "ConfigProto": ["GPUOptions gpu_options = 6"],
    "RunOptions": ["int64 timeout_in_ms = 2"],
    "TensorInfo": [
        "string name = 1",
        "int32 dtype = 2",
        "TensorShapeProto tensor_shape = 3",
    ],
    "SignatureDef": ["map TensorInfo inputs = 1", "map TensorInfo outputs = 2"],
    "MetaInfoDef": ["repeated string tags = 4"],
    "MetaGraphDef": ["MetaInfoDef meta_info_def = 1", "map SignatureDef signature_def = 5"],
    "SavedModel": ["repeated MetaGraphDef meta_graphs = 2"],
    # tensorflow_serving/apis
    "Int64Value": ["int64 value = 1"],
    "ModelSpec": ["string name = 1", "Int64Value version = 2", "string signature_name = 3"],
    "PredictRequest": [
        "ModelSpec model_spec = 1",
        "map TensorProto inputs = 2",
        "repeated string output_filter = 3",
    ],
    "PredictResponse": ["map TensorProto outputs = 1", "ModelSpec model_spec = 2"],
    "PredictLog": ["PredictRequest request = 1"],
    "PredictionLog": ["PredictLog predict_log = 6"],
}
"""Message to its fields, each as in a .proto file; a `map` has string keys."""

PACKAGE = "dah_tf.serving"

STRING = 7  # TensorFlow's number of the type
DTYPES = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    STRING: np.object_,
    9: np.int64,
    10: np.bool_,
}
"""TensorFlow's numbers of the types that can travel; strings are arrays of bytes objects."""

NUMBERS = {np.dtype(dtype): number for number, dtype in DTYPES.items()}

_VALUES = {1: "float", 2: "double", 3: "int", 4: "int", STRING: "string", 9: "int64", 10: "bool"}


def _classes():
    file = descriptor_pb2.FileDescriptorProto(
        name="dah_tf/serving/messages.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field in fields:
            *label, kind, field_name, _, number = field.split()
            added = message.field.add(name=field_name, number=int(number))
            repeated = bool(label)
            added.label = added.LABEL_REPEATED if repeated else added.LABEL_OPTIONAL
            if label == ["map"]:
                # A map travels as repeated pairs, of a type nested in the message.
                pair = "".join(word.title() for word in field_name.split("_")) + "Entry"
                entry = message.nested_type.add(name=pair)
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, label=1, type=added.TYPE_STRING)
                value = entry.field.add(name="value", number=2, label=1)
                _set_type(value, kind)
                kind = f"{name}.{pair}"
            _set_type(added, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in SCHEMA
    }


def _set_type(field, kind):
    if kind.islower():  # a scalar
        field.type = getattr(field, f"TYPE_{kind.upper()}")
    else:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"


_CLASSES = _classes()

ConfigProto = _CLASSES["ConfigProto"]
MetaGraphDef = _CLASSES["MetaGraphDef"]
PredictionLog = _CLASSES["PredictionLog"]
PredictRequest = _CLASSES["PredictRequest"]
PredictResponse = _CLASSES["PredictResponse"]
RunOptions = _CLASSES["RunOptions"]
SavedModel = _CLASSES["SavedModel"]
TensorProto = _CLASSES["TensorProto"]


def to_tensor(value):
    """A `TensorProto`.

    Args:
        value: array of a type in `DTYPES`, or list of bytes, which becomes a string tensor of
            shape `(n,)`.
    """
    if isinstance(value, list):
        tensor = TensorProto(dtype=STRING, string_val=value)
        shape = (len(value),)
    else:
        array = np.asarray(value)
        tensor = TensorProto(dtype=NUMBERS[array.dtype], tensor_content=array.tobytes())
        shape = array.shape
    for length in shape:
        tensor.tensor_shape.dim.add(size=length)
    return tensor


def from_tensor(tensor):
    """The array of a `TensorProto`, whichever way it holds its values.

    Raises:
        ValueError: a type not in `DTYPES`; values that do not fit type and shape.
    """
    if tensor.dtype not in DTYPES:
        raise ValueError(f"a tensor of a type not known here, number {tensor.dtype}")
    dtype = np.dtype(DTYPES[tensor.dtype])
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    values = getattr(tensor, f"{_VALUES[tensor.dtype]}_val")
    try:
        if tensor.tensor_content and dtype != np.object_:
            array = np.frombuffer(tensor.tensor_content, dtype)
        else:
            array = np.empty(len(values), dtype)
            array[:] = list(values)
        if min(shape, default=0) < 0:
            raise ValueError(f"the shape is {shape}")
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"a damaged tensor: {error}") from error


def predict_request(inputs, signature, model="", version=None):
    """A `PredictRequest`.

    Args:
        inputs: dict, name to what `to_tensor` takes.
        signature: str.
        model: str, the name that the server has for the model.
        version: int, or None for the one that the server prefers.
    """
    request = PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(to_tensor(value))
    return request
