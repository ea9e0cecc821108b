"""`HashModel`: backbone, hash head, classifier and loss, with its training step."""

import hashlib

import keras
import numpy as np
from keras import ops

from dah_tf import codes, losses
from dah_tf.layers import PACKAGE, HashHead

TERMS = ("loss", "class_loss", "w1_similar", "w1_dissimilar", "w2", "balance", "accuracy")


@keras.saving.register_keras_serializable(PACKAGE)
class HashModel(keras.Model):
    """A backbone with DAH's hash layer and classifier on top.

    Args:
        backbone: `keras.Model`, pixels `(n, h, w, channels)` to features `(n, d)`.
        bits: int, code length k.
        num_classes: int.
        image_size: int, side of the images the model is trained for, pixels.
        multi_label: bool; sigmoid and binary cross-entropy instead of softmax.
        phi1, phi2, t, similar_weight, balance_weight: of `losses.pairwise`.
        label_smoothing: float in [0, 1), of the classification loss.
        class_scale: float, factor on the centred hash values before the class layer, which
            amounts to a larger class layer with a larger learning rate. 1 is the paper's.
        cutout: int, side of the planned cutout box in pixels, 0 for none.
        mirror: bool; `encode` and `outputs` take an image and its mirror image together, unless
            told otherwise. `call` does not.

    Call arguments:
        inputs: uint8 or float tensor of shape `(n, h, w, channels)`, 0..255; or in training a
            dict of `images`, `(groups, m, h, w, channels)`, and `augment`, int32
            `(groups, m, 5)`: flip, dy, dx, top and left of the cutout box.
        training: bool.

    Returns:
        Dict of float32 tensors: `features` of shape `(n, d)`, `logits` and `hash` of shape
        `(n, bits)`, `classes` (logits) of shape `(n, num_classes)`; n becomes `groups, m` for a
        dict.

    References:
        DAH (IEEE Access 2020), Fig. 1.
    """

    def __init__(
        self,
        backbone,
        bits,
        num_classes,
        image_size=32,
        multi_label=False,
        phi1=1.0,
        phi2=1.0,
        t=None,
        similar_weight=None,
        balance_weight=0.0,
        label_smoothing=0.0,
        class_scale=1.0,
        cutout=0,
        mirror=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.bits = bits
        self.num_classes = num_classes
        self.image_size = image_size
        self.multi_label = multi_label
        self.phi1 = phi1
        self.phi2 = phi2
        self.t = t
        self.similar_weight = similar_weight
        self.balance_weight = balance_weight
        self.label_smoothing = label_smoothing
        self.class_scale = class_scale
        self.cutout = cutout
        self.mirror = mirror
        # Set by the training loop between compilations.
        self.backbone_frozen = False
        self.train_size = None
        self.hash_head = HashHead(bits, name="hash_head")
        self.classifier = keras.layers.Dense(num_classes, dtype="float32", name="classifier")
        self.hash_head.build((None, backbone.output_shape[-1]))
        self.classifier.build((None, bits))
        self.built = True

    @property
    def channels(self):
        return self.backbone.input_shape[-1]

    def build(self, input_shape=None):
        self.built = True

    def call(self, inputs, training=False):
        if not isinstance(inputs, dict):
            return self._outputs(inputs, training)
        images = inputs["images"]
        groups, m, *image = images.shape
        pixels = ops.reshape(images, (groups * m, *image))
        plan = ops.reshape(inputs["augment"], (groups * m, 5))
        pixels = augment(pixels, plan, self.cutout)
        if self.train_size not in (None, pixels.shape[1]):
            pixels = ops.image.resize(
                ops.cast(pixels, "float32"), (self.train_size, self.train_size), antialias=True
            )
        outputs = self._outputs(pixels, training)
        return {k: ops.reshape(v, (groups, m, v.shape[-1])) for k, v in outputs.items()}

    def _outputs(self, pixels, training):
        features = self.backbone(pixels, training=training and not self.backbone_frozen)
        if self.backbone_frozen:
            features = ops.stop_gradient(features)
        logits, values = self.hash_head(features)
        inputs = values if self.class_scale == 1.0 else (values - 0.5) * self.class_scale
        return {
            "features": ops.cast(features, "float32"),
            "logits": logits,
            "hash": values,
            "classes": self.classifier(inputs),
        }

    def terms(self, labels, outputs):
        """Every term of the loss on a batch of groups.

        Args:
            labels: int32 `(groups, m)`, or 0/1 `(groups, m, classes)` for multi-label data.
            outputs: dict from `call` on a batch of groups.

        Returns:
            Dict of float32 scalars named by `TERMS`; `loss` is what is minimised, W (eq. 6) plus
            the classification loss. Means over this replica's groups.
        """
        pairs = losses.pairwise(
            outputs["hash"],
            losses.similarity(labels, self.multi_label),
            phi1=self.phi1,
            phi2=self.phi2,
            t=self.t,
            similar_weight=self.similar_weight,
            balance_weight=self.balance_weight,
        )
        logits, smoothing = outputs["classes"], self.label_smoothing
        if self.multi_label:
            truth = ops.cast(labels, "float32")
            entropy = keras.losses.binary_crossentropy(
                truth, logits, from_logits=True, label_smoothing=smoothing
            )
            right = ops.all((logits > 0) == (truth > 0.5), axis=-1)
        else:
            entropy = keras.losses.categorical_crossentropy(
                ops.one_hot(labels, self.num_classes),
                logits,
                from_logits=True,
                label_smoothing=smoothing,
            )
            right = ops.argmax(logits, axis=-1) == ops.cast(labels, "int32")
        class_loss = ops.mean(entropy)
        return {
            "loss": class_loss + pairs.total,
            "class_loss": class_loss,
            "w1_similar": pairs.similar,
            "w1_dissimilar": pairs.dissimilar,
            "w2": pairs.w2,
            "balance": pairs.balance,
            "accuracy": ops.mean(ops.cast(right, "float32")),
        }

    if keras.backend.backend() == "tensorflow":

        def train_step(self, data):
            """One optimiser step on this replica's groups.

            Args:
                data: pair of the dict that `call` takes and the labels.

            Returns:
                Dict of this replica's float32 `TERMS`.
            """
            import tensorflow as tf

            x, labels = data
            with tf.GradientTape() as tape:
                outputs = self(x, training=True)
                terms = self.terms(labels, outputs)
                # The optimiser sums the replicas' gradients.
                loss = terms["loss"] / tf.distribute.get_strategy().num_replicas_in_sync
                loss = self.optimizer.scale_loss(loss)
            weights = self.trainable_weights
            if self.backbone_frozen:
                weights = self.hash_head.trainable_weights + self.classifier.trainable_weights
            gradients = tape.gradient(loss, weights)
            self.optimizer.apply(gradients, weights)
            return terms

    elif keras.backend.backend() == "jax":

        def train_step(self, state, data):
            """One optimiser step; a pure function.

            Args:
                state: values of the trainable, the other, the optimiser's and the metrics'
                    variables, four lists.
                data: pair of the dict that `call` takes and the labels.

            Returns:
                Dict of the float32 `TERMS`, and the new state.
            """
            import jax

            values, others, optimizer_values, metric_values = state
            x, labels = data
            optimizer = [*zip(self.optimizer.variables, optimizer_values, strict=True)]

            def loss_of(values, others):
                mapping = [*zip(self.trainable_variables, values, strict=True), *optimizer]
                mapping += zip(self.non_trainable_variables, others, strict=True)
                with keras.StatelessScope(state_mapping=mapping) as scope:
                    terms = self.terms(labels, self(x, training=True))
                    loss = self.optimizer.scale_loss(terms["loss"])
                others = [scope.get_current_value(v) for v in self.non_trainable_variables]
                return loss, (terms, others)

            gradient = jax.grad(loss_of, has_aux=True)
            gradients, (terms, others) = gradient(values, others)
            new, optimizer_values = self.optimizer.stateless_apply(
                optimizer_values, gradients, values
            )
            if self.backbone_frozen:
                frozen = {id(v) for v in self.backbone.trainable_variables}
                parts = zip(self.trainable_variables, values, new, strict=True)
                new = [old if id(v) in frozen else after for v, old, after in parts]
            return terms, (new, others, optimizer_values, metric_values)

    def encode(self, images, batch_size=256, mirror=None):
        """Packed codes of images.

        Args:
            images: uint8 or float array of shape `(n, h, w, channels)`, 0..255, of the model's
                image size.
            batch_size: int.
            mirror: bool; adds the logits of the left-right mirrored images. None: as the model
                was made.

        Returns:
            uint8 array of shape `(n, ceil(bits / 8))`, see `codes.pack`.
        """
        logits = self.outputs(images, batch_size, mirror)["logits"]
        return codes.pack(codes.binarize(logits))

    def outputs(self, images, batch_size=256, mirror=None):
        """What `call` returns for any number of images, as NumPy arrays. Arguments: `encode`."""
        mirror = self.mirror if mirror is None else mirror
        if self._encoder is None:
            self._encoder = _compiled(self)
        parts = []
        for first in range(0, len(images), batch_size):
            batch = np.asarray(images[first : first + batch_size])
            n = len(batch)
            if n < batch_size and len(images) > batch_size:  # one shape, one compilation
                batch = np.concatenate([batch, np.repeat(batch[-1:], batch_size - n, axis=0)])
            parts.append({k: v[:n] for k, v in self._encoder(batch, mirror).items()})
        if not parts:
            widths = {
                "features": self.backbone.output_shape[-1],
                "logits": self.bits,
                "hash": self.bits,
                "classes": self.num_classes,
            }
            return {k: np.zeros((0, width), np.float32) for k, width in widths.items()}
        return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}

    _encoder = None

    def in_float32(self):
        """This model, or where a part of it computes in fewer bits, a copy that does not.

        Rounding turns a bit of some images; in float32 the codes are the same on all hardware and
        in every runtime, whatever the precision of the training.

        Returns:
            `HashModel` of the same weights, not compiled if it is a copy.
        """
        config = self.get_config()
        exact = _in_float32(config)
        if exact == config:
            return self
        copy = type(self).from_config(exact)
        copy.set_weights(self.get_weights())
        return copy

    def fingerprint(self):
        """SHA-256 over name, dtype, shape and little-endian bytes of every weight, in order.

        Returns:
            str of 64 hexadecimal digits, the same after saving and loading the model.
        """
        digest = hashlib.sha256()
        for weight in self.weights:
            value = np.asarray(ops.convert_to_numpy(weight))
            value = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
            digest.update(f"{weight.name} {value.dtype.name} {value.shape}\n".encode())
            digest.update(value.tobytes())
        return digest.hexdigest()

    def get_config(self):
        names = (
            "bits num_classes image_size multi_label phi1 phi2 t similar_weight balance_weight "
            "label_smoothing class_scale cutout mirror"
        )
        config = {name: getattr(self, name) for name in names.split()}
        config["backbone"] = keras.saving.serialize_keras_object(self.backbone)
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**config)


def _in_float32(config):
    """A layer's configuration with every precision policy in it replaced by float32."""
    if isinstance(config, list | tuple):
        return type(config)(_in_float32(each) for each in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {**config["config"], "name": "float32"}}
    return {name: _in_float32(value) for name, value in config.items()}


def mirrored(model, pixels):
    """Outputs averaged over the images and their left-right mirror images."""
    one, two = model(pixels, training=False), model(ops.flip(pixels, axis=2), training=False)
    both = {k: (one[k] + two[k]) / 2.0 for k in one}
    return {**both, "hash": model.hash_head.activation(both["logits"])}


def _compiled(model):
    def forward(batch, mirror):
        return mirrored(model, batch) if mirror else model(batch, training=False)

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        function = tf.function(forward, reduce_retracing=True)
        return lambda batch, mirror: {
            k: v.numpy() for k, v in function(tf.constant(batch), mirror).items()
        }
    import jax

    def stateless(variables, batch, mirror):
        with keras.StatelessScope(state_mapping=list(zip(model.variables, variables, strict=True))):
            return forward(batch, mirror)

    function = jax.jit(stateless, static_argnums=2)
    return lambda batch, mirror: {
        k: np.asarray(v)
        for k, v in function([v.value for v in model.variables], batch, mirror).items()
    }


def augment(pixels, plan, cutout=0):
    """Applies planned flips, shifts and cutout boxes by moving whole pixels.

    Args:
        pixels: uint8 tensor of shape `(n, h, w, channels)`.
        plan: int32 tensor of shape `(n, 5)`: flip (0 or 1), then dy, dx (content moves down and
            right by them, the border mirrors its inside), top and left of the box.
        cutout: int, the box's side in pixels; what it covers becomes 128.

    Returns:
        uint8 tensor of the pixels' shape.
    """
    n, height, width, channels = pixels.shape
    flip, dy, dx, top, left = (plan[:, i : i + 1] for i in range(5))
    rows, columns = ops.arange(height, dtype="int32"), ops.arange(width, dtype="int32")
    y = _reflect(rows[None] - dy, height)
    x = _reflect(columns[None] - dx, width)
    x = ops.where(flip > 0, width - 1 - x, x)
    base = ops.arange(n, dtype="int32")[:, None, None] * (height * width)
    index = base + y[:, :, None] * width + x[:, None, :]
    moved = ops.take(ops.reshape(pixels, (n * height * width, channels)), index, axis=0)
    if not cutout:
        return moved
    in_rows = (rows[None] >= top) & (rows[None] < top + cutout)
    in_columns = (columns[None] >= left) & (columns[None] < left + cutout)
    box = (in_rows[:, :, None] & in_columns[:, None, :])[..., None]
    return ops.where(box, ops.cast(128, pixels.dtype), moved)


def _reflect(index, size):
    """Mirrors indices beyond either end, without repeating the border."""
    index = ops.abs(index)
    return size - 1 - ops.abs(size - 1 - index)
