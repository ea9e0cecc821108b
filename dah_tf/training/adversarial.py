"""This module trains an encoder together with a generator and a discriminator of images."""

import keras
from keras import ops

from dah_tf.errors import UserError
from dah_tf.model import methods
from dah_tf.training import loop

# The content loss is divided by the number of values of an image of the authors.
CONTENT_SCALE = 64 * 64 * 3
FIVE = {"kernel_size": 5, "strides": 2, "padding": "same", "dtype": "float32"}


def generator(bits, size, channels):
    """Makes a network that draws images from codes.

    Args:
        bits: int, the code length.
        size: int, the side of the images in pixels.
        channels: int.

    Returns:
        `keras.Model` from `(n, bits)` to `(n, size, size, channels)`, with values from -1 to 1.
    """
    side = -(-size // 8)
    # === Functional Model ===
    inputs = keras.Input((bits,), dtype="float32", name="codes")
    width = side * side * 256
    x = keras.layers.Dense(width, "relu", dtype="float32", name="generator_dense")(inputs)
    x = keras.layers.Reshape((side, side, 256), dtype="float32", name="generator_reshape")(x)
    for part, (width, activation) in enumerate([(128, "relu"), (64, "relu"), (channels, "tanh")]):
        name = f"generator_conv{part + 1}"
        x = keras.layers.Conv2DTranspose(width, activation=activation, name=name, **FIVE)(x)
    return keras.Model(inputs, x[:, :size, :size], name="generator")


def discriminator(size, channels):
    """Makes a network that tells images of the data set from others.

    Args:
        size, channels: as in `generator`.

    Returns:
        `keras.Model` from images to a pair: log-odds of shape `(n, 1)` that an image belongs to the
        data set, and the output of the third layer.
    """
    # === Functional Model ===
    x = inputs = keras.Input((size, size, channels), dtype="float32", name="images")
    outputs = []
    for part, width in enumerate((32, 64, 128, 256)):
        name = f"discriminator_conv{part + 1}"
        x = keras.layers.Conv2D(width, activation="elu", name=name, **FIVE)(x)
        outputs.append(x)
    x = keras.layers.Flatten(dtype="float32", name="discriminator_flatten")(x)
    odds = keras.layers.Dense(1, dtype="float32", name="discriminator_dense")(x)
    return keras.Model(inputs, [odds, outputs[2]], name="discriminator")


class Adversarial(loop.Run):
    """A `loop.Run` with three optimisers: of the encoder, of a generator and of a discriminator.

    The encoder is the `HashModel`. The other networks belong to the run alone. They are in its
    checkpoints, and not in the model that it saves. With an image x, its hash values h, the
    discriminator D and its third layer D_l, and the generator G, each step does the following.

    - The encoder minimises the loss of its method, plus
      `content = |D_l(x) - D_l(G(h + e exp(v / 2)))|^2 / (64 * 64 * 3)`.
    - The generator minimises `content - log D(G(z))`.
    - The discriminator minimises `-log D(x) - log(1 - D(G(z)))`.

    The noise e and the random codes z are normally distributed. They follow from the seed and the
    step. v is a linear function of the features, which learns with the generator. All three steps
    start from the same weights.

    The method has the functions `values(logits, state)`, which returns h, and `rate`, the learning
    rate of the generator and the discriminator.

    Args, attributes and errors: `loop.Run`.

    Raises:
        UserError: Keras does not run on TensorFlow.

    References:
        Song, He, Gao, Xu, Hanjalic and Shen, "Binary generative adversarial networks for image
        retrieval", AAAI 2018. Radford, Metz and Chintala, "Unsupervised representation learning
        with deep convolutional generative adversarial networks", ICLR 2016, for the optimiser of
        the generator and the discriminator.
    """

    def __init__(self, model, plan, images, settings, **more):
        if keras.backend.backend() != "tensorflow":
            raise UserError(f"method={model.method.name} needs KERAS_BACKEND=tensorflow")
        size, channels = model.image_size, model.channels
        # The names say in a checkpoint that these do not belong to the model.
        with keras.name_scope(methods.STATE):
            self.generator = generator(model.bits, size, channels)
            self.discriminator = discriminator(size, channels)
            self.spread = keras.layers.Dense(model.bits, dtype="float32", name="spread")
            self.spread.build((None, model.backbone.output_shape[-1]))
            self.optimizers = []
            drawing = [*self.generator.trainable_variables, *self.spread.trainable_variables]
            judging = self.discriminator.trainable_variables
            for name, weights in {"generator": drawing, "discriminator": judging}.items():
                rate = model.method.rate
                optimizer = keras.optimizers.Adam(rate, beta_1=0.5, name=f"{name}_adam")
                optimizer.build(weights)
                self.optimizers.append((optimizer, weights))
        super().__init__(model, plan, images, settings, **more)

    @property
    def variables(self):
        own = [*self.generator.variables, *self.discriminator.variables, *self.spread.variables]
        own += [each for optimizer, _ in self.optimizers for each in optimizer.variables]
        return [*super().variables, *own]

    def _compiled_step(self):
        import tensorflow as tf

        return tf.function(self._adversarial_step)

    def _adversarial_step(self, data):
        """Takes one step of each optimiser, and returns a dict of the terms."""
        import tensorflow as tf

        model, (x, labels) = self.model, data
        step = model.optimizer.iterations
        with tf.GradientTape(persistent=True) as tape:
            outputs = model(x, training=True)
            terms = model.terms(labels, outputs, step)
            content, drawn, judged = self._losses(self._pixels(x), outputs, ops.cast(step, "int32"))
            encoder = model.optimizer.scale_loss(model.minimised(terms) + content)
            drawn_loss = content + drawn
        weights = model.learning_weights
        steps = [(model.optimizer, weights, tape.gradient(encoder, weights))]
        for (optimizer, own), loss in zip(self.optimizers, (drawn_loss, judged), strict=True):
            steps.append((optimizer, own, tape.gradient(loss, own)))
        del tape
        for optimizer, own, gradients in steps:
            optimizer.apply(gradients, own)
        return terms | {"content": content, "generator_loss": drawn, "discriminator_loss": judged}

    def _pixels(self, x):
        """Returns the images that the encoder sees, with values from -1 to 1."""
        images, plan = (
            ops.reshape(each, (-1, *each.shape[2:])) for each in (x["images"], x["augment"])
        )
        pixels = ops.cast(self.model.view(images, plan), "float32") / 127.5 - 1.0
        size = self.model.image_size
        return pixels if pixels.shape[1] == size else ops.image.resize(pixels, (size, size))

    def _losses(self, pixels, outputs, step):
        """Returns the content loss, and those of the generator and of the discriminator."""
        import tensorflow as tf

        values = self.model.method.values(outputs["logits"], self.model.state)
        values = ops.reshape(values, (-1, self.model.bits))
        features = ops.reshape(outputs["features"], (len(values), -1))
        noise, random = tf.unstack(
            tf.random.stateless_normal((2, *values.shape), tf.stack([self.plan.seed % 2**31, step]))
        )
        spread = self.spread(ops.stop_gradient(features))
        codes = ops.concatenate([values + noise * ops.exp(0.5 * spread), random])
        odds, layer = self.discriminator(ops.concatenate([pixels, self.generator(codes)]))
        (real, _, fake), (real_layer, again_layer, _) = ops.split(odds, 3), ops.split(layer, 3)
        difference = ops.sum(ops.square(real_layer - again_layer), axis=(1, 2, 3))
        content = ops.mean(difference) / CONTENT_SCALE
        judged = ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))
        return content, ops.mean(ops.softplus(-fake)), judged
