"""This module lets functions of a step and Keras callbacks watch a run."""

import keras


class Watchers:
    """Calls functions and Keras callbacks as a run goes on.

    Args:
        watch: functions and `keras.callbacks.Callback` objects. A function takes the number of a
            step, counted from 1, and the dict of its logged values. Of a callback,
            `on_train_begin`, `on_train_batch_end` and `on_train_end` are called. It gets the
            number of the step counted from 0.
        model: `HashModel`.
        steps: int, the number of steps of the whole run.

    Attributes:
        stop_asked: bool, whether a callback has set `model.stop_training`.

    Raises:
        TypeError: an entry of `watch` is neither a function nor a callback.
    """

    def __init__(self, watch, model, steps):
        wrong = [each for each in watch if not callable(each) and not _is_callback(each)]
        if wrong:
            raise TypeError(f"`watch` takes functions and Keras callbacks. Received: {wrong[0]!r}")
        self.model = model
        self.functions = [each for each in watch if not _is_callback(each)]
        self.callbacks = [each for each in watch if _is_callback(each)]
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params({"steps": steps})

    @property
    def stop_asked(self):
        return bool(self.callbacks and getattr(self.model, "stop_training", False))

    def begin(self):
        self.model.stop_training = False
        for callback in self.callbacks:
            callback.on_train_begin()

    def step(self, step, values):
        """Tells all watchers about a logged step.

        The steps come in order, and several may come at once.
        """
        for function in self.functions:
            function(step, dict(values))
        for callback in self.callbacks:
            callback.on_train_batch_end(step - 1, dict(values))

    def end(self):
        for callback in self.callbacks:
            callback.on_train_end()


def _is_callback(each):
    return isinstance(each, keras.callbacks.Callback)
