"""Layers draw their weights at random: each test draws the same ones in every run."""

import pytest


@pytest.fixture(autouse=True)
def seeded():
    import keras

    keras.utils.set_random_seed(0)
