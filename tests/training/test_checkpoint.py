"""Checkpoint files: saved values are restored, and a failure never loses an earlier file."""

import resource
import subprocess
import sys

import keras
import numpy as np
import pytest

from dah_tf.errors import UserError
from dah_tf.training import checkpoint

FACTS = {"backend": "tensorflow"}


def variables(seed=0, shape=(3, 4)):
    rng = np.random.default_rng(seed)
    return [
        keras.Variable(rng.normal(size=shape), name="kernel"),
        keras.Variable(rng.integers(0, 99), dtype="int64", trainable=False, name="iterations"),
    ]


def test_save_and_restore_bitwise(tmp_path):
    ours, other = variables(0), variables(1)
    checkpoint.save(tmp_path, 7, ours, FACTS)
    assert checkpoint.restore(tmp_path, other, FACTS) == 7
    for a, b in zip(ours, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_checkpoint(tmp_path):
    assert checkpoint.restore(tmp_path / "nowhere", variables(), FACTS) is None


def test_the_last_two_are_kept_and_leftovers_removed(tmp_path):
    (tmp_path / ".step-00000001.npz.1.tmp").write_bytes(b"half")
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, variables(step), FACTS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002.npz", "step-00000003.npz"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_file_gives_way_to_the_one_before(tmp_path, damage):
    checkpoint.save(tmp_path, 1, variables(1), FACTS)
    path = checkpoint.save(tmp_path, 2, variables(2), FACTS)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        # The bytes of the kernel are somewhere in the archive.
        start = content.index(np.asarray(variables(2)[0]).tobytes())
        content[start + 5] ^= 0xFF
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b""}.get(damage, content))
    restored = variables(9)
    assert checkpoint.restore(tmp_path, restored, FACTS) == 1
    np.testing.assert_array_equal(restored[0], variables(1)[0])


def test_a_file_that_may_not_be_read_is_not_to_be_deleted(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 3, variables(1), FACTS)

    def refused(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "load", refused)
    with pytest.raises(UserError, match="step-00000003.npz cannot be read: Permission denied") as e:
        checkpoint.read(tmp_path)
    assert "delete" not in str(e.value)


def test_refuses_what_does_not_fit_and_changes_nothing(tmp_path):
    checkpoint.save(tmp_path, 1, variables(1), FACTS)
    for target, facts, message in [
        (variables(2), {"backend": "jax"}, "backend"),
        (variables(2, (4, 4)), FACTS, "does not fit"),
        (variables(2)[:1], FACTS, "does not fit"),
    ]:
        before = np.asarray(target[0]).copy()
        with pytest.raises(UserError, match=message):
            checkpoint.restore(tmp_path, target, facts)
        np.testing.assert_array_equal(target[0], before)


def test_nothing_that_is_not_finite_is_written(tmp_path):
    bad = variables()
    bad[0].assign(np.full((3, 4), np.nan))
    with pytest.raises(checkpoint.NotFinite, match="kernel"):
        checkpoint.save(tmp_path, 1, bad, FACTS)
    assert not checkpoint.files(tmp_path)


def test_a_full_disk_loses_nothing_saved_before(tmp_path):
    checkpoint.save(tmp_path, 1, variables(1), FACTS)

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    script = (
        "import numpy as np, signal; from dah_tf.training import checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "class V:\n"
        "    path = 'kernel'\n"
        "    def __array__(self, *a, **k): return np.zeros(100_000, 'float32')\n"
        f"checkpoint.save({str(tmp_path)!r}, 2, [V()], {{}})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        preexec_fn=small_files,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "OSError" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001.npz"]
    assert checkpoint.restore(tmp_path, variables(9), FACTS) == 1
