"""What a network consists of and costs, without training it."""

import keras
import numpy as np

from dah_tf.errors import UserError


def multiply_adds(backbone, image_size):
    """Multiply-accumulates of one image's forward pass through convolutions and matrix products.

    Args:
        backbone: `keras.Model`.
        image_size: int.

    Returns:
        int, counted on the traced TensorFlow graph; other operations are not counted.

    Raises:
        UserError: Keras runs on another back end.
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"multiply-adds are counted under TensorFlow, Keras runs on {keras.backend.backend()}: "
            "repeat the command with KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    spec = tf.TensorSpec((1, image_size, image_size, backbone.input_shape[-1]), "float32")
    graph = tf.function(lambda x: backbone(x, training=False)).get_concrete_function(spec).graph
    total = 0
    for operation in graph.get_operations():
        if operation.type == "Conv2D":
            height, width, channels_in, _ = operation.inputs[1].shape
            total += int(np.prod(operation.outputs[0].shape)) * height * width * channels_in
        elif operation.type == "DepthwiseConv2dNative":
            height, width = operation.inputs[1].shape[:2]
            total += int(np.prod(operation.outputs[0].shape)) * height * width
        elif operation.type == "MatMul":
            total += int(np.prod(operation.outputs[0].shape)) * operation.inputs[0].shape[-1]
    return total


def describe(model):
    """A model's layers, parameters and cost.

    Args:
        model: `HashModel`.

    Returns:
        JSON-able dict: `layers` (name, kind, output shape, parameters), `trainable_parameters`,
        `parameters`, `gmacs` of one image's forward pass, `bits`, `bytes_per_code`, and
        `method`, see `Method.facts`.
    """
    size, channels = model.image_size, model.channels
    shape = (1, size, size, channels)
    backbone = model.backbone
    every = keras.Model(backbone.inputs, [layer.output for layer in backbone.layers])
    outputs = every.compute_output_spec(keras.KerasTensor(shape, "float32"))
    rows = [
        [layer.name, type(layer).__name__, list(output.shape[1:]), layer.count_params()]
        for layer, output in zip(backbone.layers, outputs, strict=True)
    ]
    heads = [(model.hash_head, model.bits), (model.classifier, model.num_classes)]
    for layer, width in heads:
        rows.append([layer.name, type(layer).__name__, [width], layer.count_params()])
    heads_cost = model.backbone.output_shape[-1] * model.bits + model.bits * model.num_classes
    names = ("name", "kind", "output", "parameters")
    return {
        "backbone": model.backbone.name,
        "input": list(shape[1:]),
        "bits": model.bits,
        "bytes_per_code": -(-model.bits // 8),
        "classes": model.num_classes,
        "method": model.method.facts,
        "trainable_parameters": sum(int(np.prod(w.shape)) for w in model.trainable_weights),
        "parameters": sum(int(np.prod(w.shape)) for w in model.weights),
        "gmacs": (multiply_adds(model.backbone, size) + heads_cost) / 1e9,
        "layers": [dict(zip(names, row, strict=True)) for row in rows],
    }


def table(description):
    """`describe`'s result as text."""
    lines = [f"{'layer':<24}{'kind':<24}{'output':<20}{'parameters':>12}"]
    for row in description["layers"]:
        shape = "x".join(str(d) for d in row["output"])
        lines.append(f"{row['name']:<24}{row['kind']:<24}{shape:<20}{row['parameters']:>12,}")
    size = "x".join(str(d) for d in description["input"])
    lines += [
        "",
        (
            f"{description['backbone']}: {description['trainable_parameters']:,} trainable of "
            f"{description['parameters']:,} parameters, {description['gmacs']:.3f} GMACs for an image "
            f"of {size}"
        ),
        (
            f"code: {description['bits']} bits, {description['bytes_per_code']} bytes; "
            f"{description['classes']} classes"
        ),
        "method: {title} (source: {source}), {spec}".format(**description["method"]),
    ]
    return "\n".join(lines)
