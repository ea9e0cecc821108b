"""What the back end computes on."""

import pathlib
import platform

import keras

from dah_tf.machine.cores import cores

# x86 extensions, the widest first, and whether they multiply bfloat16.
EXTENSIONS = {"amx_bf16": True, "avx512_bf16": True, "avx512f": False, "avx2": False}


def accelerators():
    """Names of the GPUs and TPUs, in the order of the back end."""
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
    """The kind of device that a model trains on: an accelerator's name, or the CPU with cores."""
    found = accelerators()
    return found[0] if found else f"CPU ({cores()} cores)"


def hardware():
    """Every accelerator, and the processor, as one line for a report."""
    model, extension = _processor()
    if extension:
        model = f"{model}, {extension.upper().replace('_', '-')}"
    return ", ".join([*accelerators(), f"{cores()} CPU cores ({model})"])


def bfloat16_is_fast():
    """Whether the devices have bfloat16 matrix products (x86 AVX512-BF16 or AMX, Ampere, TPU)."""
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
    """The processor's name, and the first of `EXTENSIONS` that it has or None."""
    path = pathlib.Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    names = [line for line in text.splitlines() if line.startswith("model name")]
    model = names[0].partition(":")[2].strip() if names else ""
    return (
        model or platform.processor() or platform.machine(),
        next((each for each in EXTENSIONS if each in text), None),
    )
