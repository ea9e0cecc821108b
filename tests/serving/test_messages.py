"""The messages, records and warm-up file against the genuine ones of TensorFlow and its server."""

import numpy as np
import pytest
import serving_models
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from dah_tf.files import tfrecord
from dah_tf.serving import layout, messages, warmup

GENUINE = {
    "TensorProto": tensor_pb2.TensorProto,
    "ConfigProto": config_pb2.ConfigProto,
    "RunOptions": config_pb2.RunOptions,
    "MetaGraphDef": meta_graph_pb2.MetaGraphDef,
    "SavedModel": saved_model_pb2.SavedModel,
    "ModelSpec": model_pb2.ModelSpec,
    "PredictRequest": predict_pb2.PredictRequest,
    "PredictResponse": predict_pb2.PredictResponse,
    "PredictionLog": prediction_log_pb2.PredictionLog,
}

ARRAYS = [
    np.arange(6, dtype=np.uint8).reshape(2, 3),
    np.array([True, False]),
    np.array([[0.5, -1.25]], np.float32),
    np.array(2.5),
    np.array([-(2**40)]),
    np.array([-3], np.int32),
    np.zeros((0, 4), np.float32),
]

WARMUP_HEADS = [b"\xff\xd8", b"\x89P", b"RI", b"GI", b"BM"]


def same_wire(ours, genuine, seen):
    """Asserts that every field of a message travels as the genuine one's does."""
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    for field in ours.fields:
        other = genuine.fields_by_name[field.name]
        name = f"{ours.full_name}.{field.name}"
        assert other.number == field.number, name
        assert other.is_repeated == field.is_repeated, name
        assert other.is_packed == field.is_packed, name
        enumeration = other.type == other.TYPE_ENUM and field.type == field.TYPE_INT32
        assert other.type == field.type or enumeration, name
        if field.message_type:
            same_wire(field.message_type, other.message_type, seen)


def test_fields_are_the_genuine_ones():
    seen = set()
    for name, genuine in GENUINE.items():
        same_wire(messages._CLASSES[name].DESCRIPTOR, genuine.DESCRIPTOR, seen)
    assert {f"dah_tf.serving.{name}" for name in messages.SCHEMA} <= seen


@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_tensors(array):
    genuine = tensor_pb2.TensorProto.FromString(messages.to_tensor(array).SerializeToString())
    np.testing.assert_array_equal(tf.make_ndarray(genuine), array)
    content = tf.make_tensor_proto(array)
    values = tf.make_tensor_proto(array)
    values.tensor_content = b""
    field = {"u1": "int", "b1": "bool", "f4": "float", "f8": "double", "i4": "int", "i8": "int64"}
    field = getattr(values, field[array.dtype.str[1:]] + "_val")
    del field[:]
    field.extend(array.ravel().tolist())
    for genuine in (content, values):
        back = messages.from_tensor(messages.TensorProto.FromString(genuine.SerializeToString()))
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


def test_string_tensors():
    strings = [b"", b"\xff\x00", b"x" * 100]
    genuine = tensor_pb2.TensorProto.FromString(messages.to_tensor(strings).SerializeToString())
    assert tf.make_ndarray(genuine).tolist() == strings
    back = messages.TensorProto.FromString(tf.make_tensor_proto(strings).SerializeToString())
    assert messages.from_tensor(back).tolist() == strings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": 23}, "unknown type, number 23"),
        ({"tensor_content": b"123"}, "damaged"),
        ({"int_val": [1, 2, 3]}, "damaged"),
        ({"int_val": [1, 256]}, "damaged"),
        ({"int_val": [1, -1]}, "damaged"),
        ({"int_val": []}, "damaged"),
    ],
)
def test_damaged_tensors(change, message):
    tensor = messages.TensorProto(**{"dtype": 4, **change})
    tensor.tensor_shape.dim.add(size=2)
    with pytest.raises(ValueError, match=message):
        messages.from_tensor(tensor)
    tensor = messages.to_tensor(np.zeros(4, np.uint8))
    tensor.tensor_shape.dim[0].size = -1  # would fit any length
    with pytest.raises(ValueError, match="damaged"):
        messages.from_tensor(tensor)


def test_requests():
    genuine = predict_pb2.PredictRequest()
    genuine.model_spec.name, genuine.model_spec.signature_name = "dah", "serving_default"
    genuine.model_spec.version.value = 7
    genuine.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([b"a", b"bc"]))
    ours = messages.predict_request({"image_bytes": [b"a", b"bc"]}, "serving_default", "dah", 7)
    assert predict_pb2.PredictRequest.FromString(ours.SerializeToString()) == genuine
    assert messages.PredictRequest.FromString(genuine.SerializeToString()) == ours
    ours = messages.predict_request({}, "serving_default", "dah")
    assert not predict_pb2.PredictRequest.FromString(ours.SerializeToString()).model_spec.HasField(
        "version"
    )


def test_records_are_tensorflows(tmp_path):
    contents = [b"", b"123456789", bytes(range(256)) * 9]
    (tmp_path / "ours").write_bytes(tfrecord.encode(contents))
    read = tf.data.TFRecordDataset(str(tmp_path / "ours")).as_numpy_iterator()
    assert list(read) == contents
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in contents:
            writer.write(record)
    assert (tmp_path / "theirs").read_bytes() == (tmp_path / "ours").read_bytes()
    assert list(tfrecord.decode((tmp_path / "theirs").read_bytes())) == contents


def test_a_flipped_bit_or_a_short_file_is_found():
    whole = tfrecord.encode([b"abc", b"defg"])
    for at in range(len(whole)):
        with pytest.raises(tfrecord.DamagedRecord):
            list(tfrecord.decode(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]))
    for length in set(range(1, len(whole))) - {len(tfrecord.encode([b"abc"]))}:
        with pytest.raises(tfrecord.DamagedRecord):
            list(tfrecord.decode(whole[:length]))


def test_the_warmup_file_holds_genuine_requests():
    """As TensorFlow Serving reads it: for each signature, at each batch size."""
    model = serving_models.model_folder() / "1"
    path = model / "assets.extra" / "tf_serving_warmup_requests"
    assert path == model / layout.WARMUP
    found = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        ((name, tensor),) = request.inputs.items()
        array = tf.make_ndarray(tensor)
        found.append((request.model_spec.signature_name, name, len(array)))
        if name == "pixels":
            assert array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] == 3
    wanted = [(1 << k) for k in range(7)]
    for signature, name in (("serving_default", "image_bytes"), ("pixels", "pixels")):
        assert [found_size for s, n, found_size in found if (s, n) == (signature, name)] == wanted
    assert path.stat().st_size < 500_000


def test_the_warmup_images_are_in_every_format():
    requests = dict(warmup._requests(8, 1))
    heads = [image[:2] for image in requests["serving_default"]["image_bytes"]]
    assert heads == [*WARMUP_HEADS, *WARMUP_HEADS[:3]]
    assert requests["pixels"]["pixels"].shape[-1] == 1
