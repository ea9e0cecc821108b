"""The protocol buffers of TensorFlow Serving that the client needs, without TensorFlow.

They have the same field numbers and types as TensorFlow's, so that each can read the bytes of the
other. They are in a separate pool, so that TensorFlow's can be imported too. Fields that are not
listed here are kept when a message is read and written again.
"""

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SCHEMA = {
    # tensorflow/core/framework
    "Dim": ["int64 size = 1"],
    "TensorShapeProto": ["repeated Dim dim = 2", "bool unknown_rank = 3"],
    "TensorProto": [
        "int32 dtype = 1",  # TensorFlow has an enumeration, which has the same encoding
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
"""The fields of each message, written as in a .proto file. A `map` has string keys."""

PACKAGE = "dah_tf.serving"

STRING = 7  # TensorFlow's number for the type
DTYPES = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    STRING: np.object_,
    9: np.int64,
    10: np.bool_,
}
"""TensorFlow's numbers for the types that can be sent. Strings are arrays of bytes objects."""

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
                # A map is encoded as repeated pairs, whose type is nested in the message.
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
    """Converts a value to a `TensorProto`.

    Args:
        value: array of a type in `DTYPES`, or a list of bytes, which becomes a string tensor of
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
    """Converts a `TensorProto` to an array. The values may be in any of its fields.

    Raises:
        ValueError: the type is not in `DTYPES`, or the values do not fit the type and the shape.
    """
    if tensor.dtype not in DTYPES:
        raise ValueError(f"a tensor has an unknown type, number {tensor.dtype}")
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
    """Makes a `PredictRequest`.

    Args:
        inputs: dict of name to a value for `to_tensor`.
        signature: str.
        model: str, the name of the model on the server.
        version: int, or None for the one that the server chooses.
    """
    request = PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(to_tensor(value))
    return request
