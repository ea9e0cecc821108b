"""The devices on which the back end computes."""

import pathlib
import platform

import keras

from dah_tf.machine.cores import cores

# Extensions of x86 processors, the widest first, and whether they multiply bfloat16.
EXTENSIONS = {"amx_bf16": True, "avx512_bf16": True, "avx512f": False, "avx2": False}


def accelerators():
    """Returns the names of the GPUs and TPUs, in the order of the back end."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        found = [
            tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
            for gpu in tf.config.list_physical_devices("GPU")
        ]
        return found + ["TPU" for _ in tf.config.list_logical_devices("TPU")]
    if keras.backend.backend() == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    return []


def name():
    """Returns the name of the first accelerator, or the CPU with its number of cores."""
    found = accelerators()
    return found[0] if found else f"CPU ({cores()} cores)"


def hardware():
    """Returns one line for reports, with all accelerators and the processor."""
    model, extension = _processor()
    if extension:
        model = f"{model}, {extension.upper().replace('_', '-')}"
    return ", ".join([*accelerators(), f"{cores()} CPU cores ({model})"])


def bfloat16_is_fast():
    """Says whether the devices multiply bfloat16 fast.

    These are x86 processors with AVX512-BF16 or AMX, NVIDIA GPUs since Ampere, and TPUs.
    """
    if not accelerators():
        return EXTENSIONS.get(_processor()[1], False)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            details = tf.config.experimental.get_device_details(gpu)
            return details.get("compute_capability", (0, 0)) >= (8, 0)
    if keras.backend.backend() == "jax":
        import jax

        for device in jax.devices():
            if device.platform == "gpu":
                return float(getattr(device, "compute_capability", 0)) >= 8
    return True


def _processor():
    """Returns the name of the processor, and the first of `EXTENSIONS` that it has, or None."""
    path = pathlib.Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    names = [line for line in text.splitlines() if line.startswith("model name")]
    model = names[0].partition(":")[2].strip() if names else ""
    return (
        model or platform.processor() or platform.machine(),
        next((each for each in EXTENSIONS if each in text), None),
    )
