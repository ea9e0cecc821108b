"""`HashModel` joins a backbone, a hash head, a classifier and a method's loss.

It also holds the training step.
"""

import hashlib

import keras
import numpy as np
from keras import ops

from dah_tf import codes, losses
from dah_tf.errors import UserError
from dah_tf.layers import PACKAGE
from dah_tf.model import methods

# Before the setting `method` existed, the configuration of a model held these options of DAH
# as separate entries.
BEFORE_METHODS = ("phi1", "phi2", "t", "similar_weight", "balance_weight", "label_smoothing")
BEFORE_METHODS += ("class_scale",)


class _Extra:
    """Holds what belongs to the training and not to the model.

    Keras does not look for variables in an object of this kind.

    Attributes:
        facts: `methods.Facts` of the run, or None before a run has begun.
        state: dict of name to Keras variable, the state of the method.
        network: the backbone with its feature map as a second output, if the method or its head
            needs it.
        pool: the part of the backbone from its feature map to its output, if the head needs it.
    """

    def __init__(self):
        self.facts = None
        self.state = {}
        self.network = None
        self.pool = None


@keras.saving.register_keras_serializable(PACKAGE)
class HashModel(keras.Model):
    """A backbone with a hash head and a classifier on top, and the method that trains them.

    Args:
        backbone: `keras.Model` that maps pixels `(n, h, w, channels)` to features `(n, d)`.
        bits: int, the code length k.
        num_classes: int, the number of classes.
        image_size: int, the side in pixels of the images that the model is trained for.
        multi_label: bool, whether an image may have several classes. If it is True, each entry
            of `classes` is the logit of a sigmoid and not of a softmax, and labels are rows of
            0 and 1.
        method: `methods.Method`, or a text for `methods.get` such as "dah:phi1=0.5".
        cutout: int, the side of the planned cutout box in pixels, or 0 for no box.
        mirror: bool, whether `encode` and `outputs` combine each image with its mirror image
            by default. `call` never does this.

    Attributes:
        span: pair of floats, the lowest and the highest hash value.
        state: dict of name to Keras variable, which holds what the method keeps in addition to
            the weights. It is empty before `begin` is called.

    Call arguments:
        inputs: uint8 or float tensor of shape `(n, h, w, channels)` with values from 0 to 255.
            In training it is a dict instead. The dict holds `images` of shape
            `(groups, m, h, w, channels)` and `augment`, an int32 tensor of shape
            `(groups, m, 5)` with the flip, dy, dx, and the top and left of the cutout box. If
            the method needs them, the dict also holds `second`, which is the same for a second
            view, and `rows`, an int32 tensor of shape `(groups, m)`.
        training: bool, whether the model is being trained.

    Returns:
        Dict of float32 tensors: `features` of shape `(n, d)`, `logits` and `hash` of shape
        `(n, bits)`, and `classes` (logits) of shape `(n, num_classes)`. If the input is a dict,
        `groups, m` takes the place of n, and the outputs may also hold what `methods.Needs`
        describes.

    Raises:
        UserError: there is no such method, or it needs a feature map that the backbone lacks.

    Example:
        >>> import numpy as np
        >>> from dah_tf.model import backbones
        >>> backbone = backbones.get("compact:widths=8/16/16", channels=1)
        >>> model = HashModel(backbone, bits=16, num_classes=10, image_size=16)
        >>> model.encode(np.zeros((3, 16, 16, 1), np.uint8)).shape
        (3, 2)

    References:
        DAH (IEEE Access 2020), Fig. 1.
    """

    def __init__(
        self,
        backbone: keras.Model,
        bits: int,
        num_classes: int,
        image_size: int = 32,
        multi_label: bool = False,
        method: str | methods.Method = "dah",
        cutout: int = 0,
        mirror: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._extra = _Extra()
        self.backbone = backbone
        self.bits = bits
        self.num_classes = num_classes
        self.image_size = image_size
        self.multi_label = multi_label
        self.method = method if isinstance(method, methods.Method) else methods.get(method)
        self.cutout = cutout
        self.mirror = mirror
        # The training loop sets this attribute between compilations.
        self.backbone_frozen = False
        self.train_size = None
        self.hash_head = self.method.head_of(bits, num_classes)
        self.classifier = self.method.classifier(num_classes)
        shape = (None, backbone.output_shape[-1])
        # What the head does with the feature map, see `Method.head`.
        self._of_map = getattr(self.hash_head, "takes_map", False)
        self._has_more = hasattr(self.hash_head, "more")
        if self.method.needs.feature_map or self._of_map or self._has_more:
            self._extra.network, self._extra.pool = _with_feature_map(backbone, self.method)
        if self._of_map:
            shape = [shape, self._extra.network.output_shape[1]]
        self.hash_head.build(shape)
        none = ops.zeros((1, bits))
        self.classifier.build((None, self.method.seen(none, none).shape[-1]))
        self.built = True

    @property
    def channels(self) -> int:
        return self.backbone.input_shape[-1]

    def build(self, input_shape=None):
        self.built = True

    @property
    def span(self) -> tuple[float, float]:
        return self.hash_head.span

    @property
    def state(self) -> dict:
        return self._extra.state

    @property
    def facts(self) -> methods.Facts | None:
        """The `methods.Facts` of the run, or None before `begin` is called."""
        return self._extra.facts

    def begin(self, facts: methods.Facts) -> None:
        """Makes the method's state for a run.

        The state does not belong to `weights`, to the fingerprint, to `.keras` files or to
        exports.

        Args:
            facts: `methods.Facts` of the run.
        """
        with keras.name_scope(methods.STATE):
            self._extra.state = {
                name: keras.Variable(value, name=name, trainable=False, autocast=False)
                for name, value in self.method.variables(facts).items()
            }
        self._extra.facts = facts

    def call(self, inputs, training: bool = False) -> dict:
        if not isinstance(inputs, dict):
            return self._outputs(inputs, training)
        images = inputs["images"]
        groups, m, *image = images.shape
        images = ops.reshape(images, (groups * m, *image))
        plans = [inputs[name] for name in ("augment", "second") if name in inputs]
        views = [self.view(images, ops.reshape(plan, (groups * m, 5))) for plan in plans]
        pixels = views[0] if len(views) == 1 else ops.concatenate(views)
        found = self._outputs(pixels, training, with_map=True)

        def grouped(view):
            return {
                name: ops.reshape(
                    value if len(views) == 1 else value[view * groups * m :][: groups * m],
                    (groups, m, *value.shape[1:]),
                )
                for name, value in found.items()
            }

        outputs = grouped(0)
        if len(views) == 2:
            outputs["second"] = grouped(1)
        if "rows" in inputs:
            outputs["rows"] = inputs["rows"]
        return outputs

    def view(self, images, plan):
        """Returns augmented pixels in the image size that this part of the run trains on.

        Args:
            images: uint8 tensor of shape `(n, h, w, channels)`.
            plan: int32 tensor of shape `(n, 5)`, see `augment`.
        """
        pixels = augment(images, plan, self.cutout)
        if self.train_size not in (None, pixels.shape[1]):
            pixels = ops.image.resize(
                ops.cast(pixels, "float32"), (self.train_size, self.train_size), antialias=True
            )
        return pixels

    def _outputs(self, pixels, training, with_map=False):
        training, found = training and not self.backbone_frozen, None
        if self._of_map or (with_map and self._extra.network is not None):
            features, found = self._extra.network(pixels, training=training)
            found = ops.cast(found, "float32")
        else:
            features = self.backbone(pixels, training=training)
        if self.backbone_frozen:
            features = ops.stop_gradient(features)
            found = None if found is None else ops.stop_gradient(found)
        logits, values = self.hash_head((features, found) if self._of_map else features)
        outputs = {
            "features": ops.cast(features, "float32"),
            "logits": logits,
            "hash": values,
            "classes": self.classifier(self.method.seen(logits, values)),
        }
        if with_map and hasattr(self.hash_head, "bit_weights"):
            outputs["bit_weights"] = ops.broadcast_to(self.hash_head.bit_weights, logits.shape)
        if with_map and self._has_more:
            outputs.update(self.hash_head.more(found, self._extra.pool))
        if with_map and self.method.needs.feature_map:
            outputs["map"] = found
        return outputs

    def terms(self, labels, outputs: dict, step=0) -> dict:
        """Computes every term of the loss on a batch of groups.

        Args:
            labels: int32 tensor of shape `(groups, m)`, or a tensor of 0 and 1 of shape
                `(groups, m, classes)` for multi-label data.
            outputs: dict that `call` returned for a batch of groups.
            step: int tensor, the number of optimiser steps done so far.

        Returns:
            Dict of float32 scalars, which are means over this replica's groups. It holds what
            the method's `terms` returns. If the class layer is a probe, the dict ends with
            `probe_loss`, which is minimised along with `loss`, and with the probe's `accuracy`.
        """
        terms = self.method.terms(labels, outputs, self.state, step)
        if not self.method.has_classifier:
            terms["probe_loss"] = losses.cross_entropy(labels, outputs["classes"])
            terms["accuracy"] = losses.accuracy(labels, outputs["classes"])
        return terms

    def minimised(self, terms: dict):
        """Returns what the optimiser minimises.

        The probe's loss has a gradient only with respect to the weights of the probe.
        """
        return terms["loss"] if self.method.has_classifier else terms["loss"] + terms["probe_loss"]

    @property
    def learning_weights(self) -> list:
        """Lists the weights that learn at present, without the backbone's if it is frozen."""
        if self.backbone_frozen:
            return self.hash_head.trainable_weights + self.classifier.trainable_weights
        return self.trainable_weights

    @property
    def parts(self) -> tuple[list, ...]:
        """Returns the variables that a pure `train_step` works on, as a tuple of lists.

        The lists hold the trainable variables, the variables that are not trainable, those of
        the optimiser and those of the metrics. If the method has a state, its variables are the
        last list.
        """
        parts = [self.trainable_variables, self.non_trainable_variables]
        parts += [self.optimizer.variables, self.metrics_variables]
        parts += [self.state.values()] if self.state else []
        return tuple([*part] for part in parts)

    if keras.backend.backend() == "tensorflow":

        def train_step(self, data):
            """Takes one optimiser step on this replica's groups.

            Args:
                data: pair of the dict that `call` takes and the labels.

            Returns:
                Dict of this replica's terms as float32 scalars.
            """
            import tensorflow as tf

            x, labels = data
            with tf.GradientTape() as tape:
                outputs = self(x, training=True)
                terms = self.terms(labels, outputs, self.optimizer.iterations)
                # The optimiser sums the gradients of all replicas.
                replicas = tf.distribute.get_strategy().num_replicas_in_sync
                loss = self.minimised(terms) / replicas
                loss = self.optimizer.scale_loss(loss)
            weights = self.learning_weights
            gradients = tape.gradient(loss, weights)
            self.optimizer.apply(gradients, weights)
            return terms

    elif keras.backend.backend() == "jax":

        def train_step(self, state, data):
            """Takes one optimiser step as a pure function.

            Args:
                state: tuple of lists, the values of `parts`.
                data: pair of the dict that `call` takes and the labels.

            Returns:
                Dict of the float32 terms, and the new state, which is again a tuple of lists.
            """
            import jax

            values, others, optimizer_values, metric_values, *extra = state
            x, labels = data
            optimizer = [*zip(self.optimizer.variables, optimizer_values, strict=True)]
            # These variables of the network and of the method are not trained.
            kept = [*self.non_trainable_variables, *self.state.values()]
            names = []

            def loss_of(values, held):
                mapping = [*zip(self.trainable_variables, values, strict=True), *optimizer]
                mapping += zip(kept, held, strict=True)
                with keras.StatelessScope(state_mapping=mapping) as scope:
                    step = scope.get_current_value(self.optimizer.iterations)
                    terms = self.terms(labels, self(x, training=True), step)
                    loss = self.optimizer.scale_loss(self.minimised(terms))
                names[:] = terms  # The names are kept here, because JAX sorts a dict.
                held = [scope.get_current_value(v) for v in kept]
                return loss, (terms, held)

            gradient = jax.grad(loss_of, has_aux=True)
            gradients, (terms, held) = gradient(values, [*others, *(extra[0] if extra else [])])
            new, optimizer_values = self.optimizer.stateless_apply(
                optimizer_values, gradients, values
            )
            if self.backbone_frozen:
                frozen = {id(v) for v in self.backbone.trainable_variables}
                parts = zip(self.trainable_variables, values, new, strict=True)
                new = [old if id(v) in frozen else after for v, old, after in parts]
            others, extra = held[: len(others)], [held[len(others) :]] if extra else []
            terms = {name: terms[name] for name in names}
            return terms, ([*new], others, [*optimizer_values], metric_values, *extra)

    def fit(self, *_, **__):
        """Raises a `UserError` that names the function which trains a `HashModel`."""
        raise UserError(
            "HashModel.fit cannot train, because a loss needs class-balanced groups of images; "
            "call dah_tf.train(recipe, data)"
        )

    train_on_batch = fit

    def evaluate(self, *_, **__):
        """Raises a `UserError` that names the function which evaluates a `HashModel`."""
        raise UserError(
            "HashModel.evaluate cannot measure retrieval, which needs queries and a database; call "
            "dah_tf.evaluate(run), or for a model without a run "
            "dah_tf.evaluation.measure.evaluate(model, dataset, protocol)"
        )

    test_on_batch = evaluate

    def encode(
        self, images: np.ndarray, batch_size: int = 256, mirror: bool | None = None
    ) -> np.ndarray:
        """Computes the packed codes of images.

        Args:
            images: uint8 or float array of shape `(n, h, w, channels)` with values from 0 to
                255. The images have the model's image size.
            batch_size: int, the number of images in a batch.
            mirror: bool, whether to add the logits of the left-right mirrored images. None uses
                the value that the model was made with.

        Returns:
            uint8 array of shape `(n, ceil(bits / 8))`, see `codes.pack`.
        """
        logits = self.outputs(images, batch_size, mirror)["logits"]
        return codes.pack(codes.binarize(logits))

    def outputs(
        self, images: np.ndarray, batch_size: int = 256, mirror: bool | None = None
    ) -> dict[str, np.ndarray]:
        """Returns the results of `call` for any number of images as NumPy arrays.

        The arguments are those of `encode`.
        """
        mirror = self.mirror if mirror is None else mirror
        if self._encoder is None:
            self._encoder = _compiled(self)
        parts = []
        for first in range(0, len(images), batch_size):
            batch = np.asarray(images[first : first + batch_size])
            n = len(batch)
            # Every batch has the same shape, so that the network is compiled only once.
            if n < batch_size and len(images) > batch_size:
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

    def of_features(self, features: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what `outputs` returns, for images with known features.

        Args:
            features: float array of shape `(n, d)`, the outputs of the backbone.

        Returns:
            Dict of NumPy arrays with the same entries as the result of `outputs`.
        """
        features = np.asarray(features, np.float32)
        logits, values = self.hash_head(features)
        classes = self.classifier(self.method.seen(logits, values))
        found = {"features": features, "logits": logits, "hash": values, "classes": classes}
        return {name: np.asarray(ops.convert_to_numpy(value)) for name, value in found.items()}

    _encoder = None

    def in_float32(self) -> "HashModel":
        """Returns this model, or a float32 copy if a part of it computes in fewer bits.

        Rounding in fewer bits flips a bit in the codes of some images. In float32 the codes are
        the same on all hardware and in every runtime, whatever the precision of the training.

        Returns:
            `HashModel` with the same weights. A copy is not compiled.
        """
        config = self.get_config()
        exact = _in_float32(config)
        if exact == config:
            return self
        copy = type(self).from_config(exact)
        copy.set_weights(self.get_weights())
        return copy

    def fingerprint(self) -> str:
        """Computes a SHA-256 hash of the model's weights.

        The hash covers the name, dtype, shape and little-endian bytes of every weight, in order.

        Returns:
            str of 64 hexadecimal digits. It stays the same when the model is saved and loaded.
        """
        digest = hashlib.sha256()
        for weight in self.weights:
            value = np.asarray(ops.convert_to_numpy(weight))
            value = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
            digest.update(f"{weight.name} {value.dtype.name} {value.shape}\n".encode())
            digest.update(value.tobytes())
        return digest.hexdigest()

    def get_config(self) -> dict:
        names = "bits num_classes image_size multi_label cutout mirror"
        config = {name: getattr(self, name) for name in names.split()}
        config["method"] = str(self.method)
        config["backbone"] = keras.saving.serialize_keras_object(self.backbone)
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict) -> "HashModel":
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(config["backbone"])
        before = {name: config.pop(name) for name in BEFORE_METHODS if name in config}
        if before:
            config["method"] = str(methods.with_options("dah", before))
        return cls(**config)


def _with_feature_map(backbone, method):
    """Makes a backbone that also returns its feature map, and the part that follows the map.

    The feature map is the last output of a layer that has a height and a width.

    Raises:
        UserError: the backbone has no such output.
    """
    layers = [x for x in backbone.layers if not isinstance(x, keras.layers.InputLayer)]
    maps = [layer.output for layer in layers if len(layer.output.shape) == 4]
    if not maps:
        raise UserError(
            f"method {method.name} needs a feature map, but no layer of {backbone.name} has a "
            "height and a width; take another backbone"
        )
    whole = keras.Model(backbone.inputs, [backbone.output, maps[-1]])
    return whole, keras.Model(maps[-1], backbone.output)


def _in_float32(config):
    """Returns a layer's configuration with every precision policy replaced by float32."""
    if isinstance(config, list | tuple):
        return type(config)(_in_float32(each) for each in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {**config["config"], "name": "float32"}}
    return {name: _in_float32(value) for name, value in config.items()}


def mirrored(model, pixels):
    """Returns outputs that are averaged over the images and their left-right mirror images."""
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
        plan: int32 tensor of shape `(n, 5)`. Its columns are the flip (0 or 1), dy, dx, and the
            top and left of the box. The content moves down by dy and right by dx, and the
            border is filled with a mirror image of the pixels inside it.
        cutout: int, the side of the box in pixels. Pixels inside the box become 128.

    Returns:
        uint8 tensor of the same shape as `pixels`.
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
    """Mirrors indices that lie beyond either end, without repeating the border."""
    index = ops.abs(index)
    return size - 1 - ops.abs(size - 1 - index)
