"""This module lists the layers of a network and what it costs, without training it."""

import keras
import numpy as np

from dah_tf.errors import UserError


def multiply_adds(backbone, image_size):
    """Counts the multiply-accumulate operations of one image's forward pass.

    Args:
        backbone: `keras.Model`.
        image_size: int, the side of the image in pixels.

    Returns:
        int, the number of operations in the traced TensorFlow graph. Only convolutions and
        matrix products are counted.

    Raises:
        UserError: Keras runs on another back end.
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"multiply-adds are counted under TensorFlow, but Keras runs on {keras.backend.backend()}; "
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


def layers_of(network, shape):
    """Lists the layers of a network, each with its output shape for images of one size.

    If a network contains another network, as a backbone contains a Keras Application, the list
    holds the layers of the inner network.

    Args:
        network: functional or sequential `keras.Model` with one input.
        shape: tuple of ints, the shape of the input including the number of images.

    Returns:
        List of lists. Each holds the name and the kind of a layer, the shape of its output
        without the number of images, and the number of its parameters.
    """
    tensor = keras.Input(batch_shape=shape)
    outputs, inner = {}, {}

    def call(layer, *arguments, **options):
        output = layer(*arguments, **options)
        outputs[layer.name] = output.shape
        if isinstance(layer, keras.Sequential) or type(layer).__name__ == "Functional":
            own = layers_of(layer, arguments[0].shape)
            inner[layer.name] = [row for row in own if row[1] != "InputLayer"]
        return output

    # This calls the same layers again on an input of known size. Nothing is computed.
    if isinstance(network, keras.Sequential):
        for layer in network.layers:
            tensor = call(layer, tensor)
    else:
        keras.models.clone_model(
            network, input_tensors=tensor, clone_function=lambda layer: layer, call_function=call
        )
    rows = []
    for layer in network.layers:
        output = [*outputs.get(layer.name, shape)[1:]]  # An input layer gets `shape`.
        own = [layer.name, type(layer).__name__, output, layer.count_params()]
        rows += inner.get(layer.name, [own])
    return rows


def describe(model):
    """Describes a model's layers, parameters and cost.

    Args:
        model: `HashModel`.

    Returns:
        Dict that can be written as JSON. It holds `layers` (name, kind, output shape and
        parameters of each), `trainable_parameters`, `parameters`, `gmacs` of one image's
        forward pass, `bits`, `bytes_per_code`, and `method`, which is described at
        `Method.facts`.
    """
    size, channels = model.image_size, model.channels
    shape = (1, size, size, channels)
    rows = layers_of(model.backbone, shape)
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
    """Formats the result of `describe` as text."""
    named, of_kind = (
        2 + max(22, *(len(row[key]) for row in description["layers"])) for key in ("name", "kind")
    )
    lines = [f"{'layer':<{named}}{'kind':<{of_kind}}{'output':<20}{'parameters':>12}"]
    for row in description["layers"]:
        shape = "x".join(str(d) for d in row["output"])
        start = f"{row['name']:<{named}}{row['kind']:<{of_kind}}"
        lines.append(f"{start}{shape:<20}{row['parameters']:>12,}")
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
