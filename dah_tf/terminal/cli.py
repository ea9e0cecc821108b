"""The flags that commands share, and how a command starts and ends."""

import os
import sys
import types

from absl import flags

from dah_tf.errors import UserError
from dah_tf.machine import memory

FLAGS = flags.FLAGS


def data_flags():
    """Which images, and what part they play."""
    flags.DEFINE_string(
        "dataset",
        "cifar10",
        "cifar10, tfds:NAME, folder:PATH (a folder a class, optional train/ and test/), "
        "csv:FILE (path,label[;label...]), npz:FILE (x_train, y_train, x_test, y_test), digits.",
    )
    flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps its data.")
    flags.DEFINE_integer("image_size", None, "Side in pixels; None: the data's own.", 8)
    flags.DEFINE_enum("channels", None, ["1", "3"], "Channels; None: the data's own.")
    flags.DEFINE_string(
        "protocol", "full", "full, 1k/5k/59k, 1k/5k/54k, unseen or own; see README."
    )
    flags.DEFINE_integer(
        "validation",
        None,
        "Images carved from training for model selection; None: 1,000, at most a tenth.",
        0,
    )
    flags.DEFINE_float("cache_gib", 4.0, "Decoded images of a folder kept in memory, GiB.", 0.0)


def model_flags():
    """The network and its loss."""
    flags.DEFINE_integer("bits", 36, "Code length.", 1, 1024)
    flags.DEFINE_string(
        "backbone", "resnet30", "resnet30, compact, resnet50 or a Keras Applications name."
    )
    flags.DEFINE_boolean("attention", True, "CBAM in resnet30 and compact (--noattention: none).")
    flags.DEFINE_list("widths", None, "Channels of compact's three stages; None: 64,256,256.")
    flags.DEFINE_integer("depth", None, "Convolutions in a stage of compact; None: 2.", 1)
    flags.DEFINE_string(
        "backbone_weights",
        "none",
        "What the backbone starts from: none, imagenet, a .weights.h5 file, the folder of a run, "
        "or pretrained:NAME.",
    )
    flags.DEFINE_string(
        "method", "dah", "The hash method, NAME or NAME:OPTION=VALUE,...: dah, ce or dpsh."
    )
    flags.DEFINE_float("phi1", 1.0, "Weight of W1, the pairwise distances (eq. 6).", 0.0)
    flags.DEFINE_float("phi2", 1.0, "Weight of W2, the ones in a pair's codes (eq. 6).", 0.0)
    flags.DEFINE_float("t", None, "Distance of dissimilar pairs (eq. 2); None: bits / 4.8.", 0.0)
    flags.DEFINE_float(
        "similar_weight",
        None,
        "Share of similar pairs in W1, 0 to 1; None: the plain mean over pairs (eq. 6).",
        0.0,
        1.0,
    )
    flags.DEFINE_float("balance_weight", 0.0, "Weight of the per-bit balance term.", 0.0)
    flags.DEFINE_float("label_smoothing", 0.0, "Of the classification loss.", 0.0, 0.99)
    flags.DEFINE_float(
        "class_scale", 1.0, "Factor on the centred hash values before the class layer.", 0.0
    )


def workdir_flag():
    """The run's folder."""
    flags.DEFINE_string(
        "workdir",
        None,
        "The run's folder: checkpoints, logs, model, results. Default when training: "
        "runs/DATASET-BACKBONE-BITS. Of a model that ships with dah_tf: pretrained:NAME.",
    )


def training_flags():
    """The recipe, and how a run is kept."""
    workdir_flag()
    flags.DEFINE_float("epochs", 200, "Length of the run.", 0.0)
    flags.DEFINE_integer("groups", 1, "Class-balanced groups a step (1 in the paper).", 1)
    flags.DEFINE_integer(
        "classes_per_group", None, "Classes in a group; None: all, at most 100.", 2
    )
    flags.DEFINE_integer("images_per_class", 2, "Images of each class in a group.", 1)
    flags.DEFINE_enum("flip", "random", ["none", "random", "alternate"], "Left-right mirroring.")
    flags.DEFINE_integer("shift", 4, "Largest random shift, pixels.", 0)
    flags.DEFINE_integer("cutout", 0, "Side of the random cutout box, pixels.", 0)
    flags.DEFINE_float(
        "cutout_epochs", None, "First epochs in which a box is cut out; None: all.", 0.0
    )
    flags.DEFINE_string(
        "train_sizes",
        None,
        "Progressive image size: SIZE:SHARE,... of the steps, such as 16:0.4,24:0.3,32:0.3.",
    )
    flags.DEFINE_enum("optimizer", "adam", ["adam", "sgd", "muon"], "adam is the paper's.")
    flags.DEFINE_float("learning_rate", 1e-3, "Peak learning rate.", 0.0)
    flags.DEFINE_float("warmup", 0.0, "Share of the steps in which the rate rises.", 0.0, 1.0)
    flags.DEFINE_enum("decay", "constant", ["constant", "linear", "cosine"], "After the rise.")
    flags.DEFINE_float("momentum", 0.9, "Of sgd (Nesterov) and muon.", 0.0, 1.0)
    flags.DEFINE_float("weight_decay", 0.0, "Decoupled, on kernels only.", 0.0)
    flags.DEFINE_float("adam_ratio", 1.0, "muon: rate of what is no convolution kernel.", 0.0)
    flags.DEFINE_boolean(
        "fixed_norm", False, "muon: hold each convolution kernel's norm (BatchNorm must follow)."
    )
    flags.DEFINE_integer("ns_steps", 5, "muon: Newton-Schulz steps of an update.", 1)
    flags.DEFINE_float("freeze_epochs", 0.0, "First epochs that train only the head.", 0.0)
    flags.DEFINE_enum(
        "precision",
        "auto",
        ["auto", "float32", "mixed_bfloat16", "mixed_float16"],
        "auto: bfloat16 where the hardware has it, else float32.",
    )
    flags.DEFINE_enum("strategy", "auto", ["auto", "one", "mirrored"], "Devices to train on.")
    flags.DEFINE_integer(
        "seed", 0, "Of splits, order, augmentation and initial weights.", 0, 2**32 - 1
    )
    flags.DEFINE_integer("checkpoint_steps", 0, "Steps between checkpoints; 0: by minutes.", 0)
    flags.DEFINE_float("checkpoint_minutes", 5.0, "Minutes between checkpoints.", 0.0)
    flags.DEFINE_float("validate_epochs", 5.0, "Epochs between validations; 0: none.", 0.0)
    flags.DEFINE_boolean("mirror", False, "Codes from each image and its mirror image together.")
    flags.DEFINE_string(
        "note", "", "Stands beside the run's figures, such as a data set's variant."
    )
    flags.DEFINE_boolean("export", True, "End by writing WORKDIR/export/1, a SavedModel.")


def launch(main, usage, paths=False, keras=True):
    """Runs a command.

    `--help` exits 0; a bad flag, a left-over argument or a `UserError` is one line on stderr and
    exit code 2.

    Args:
        main: function of no arguments, returns an exit code or None.
        usage: str, printed above the flags by `--help`.
        paths: bool; the command takes arguments that are no flags: `main` gets them as a list.
        keras: bool; False for a command that needs no Keras.
    """
    # A file's name may be no text in the screen's encoding: printing it must not fail.
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
    try:
        if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(sys.argv[1:]):
            print(help_text(usage), flush=True)
            sys.exit(0)
        FLAGS.set_gnu_getopt(paths)  # flags may follow the paths
        rest = FLAGS(sys.argv)
        if rest[1:] and not paths:
            raise UserError(
                f"unexpected argument {rest[1]!r}; flags are written --name=value, "
                "booleans --name or --noname"
            )
        if keras:
            import_quietly()
        code = main(rest[1:]) if paths else main()
        sys.stdout.flush()
        sys.exit(code)
    except (flags.Error, UserError) as error:
        fail(error)
    except BrokenPipeError:
        # The reader, such as `head`, has gone; at its end Python flushes stdout once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def fail(error):
    """Prints one line and exits with code 2."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


def import_quietly():
    """Imports Keras and its back end without their start-up messages on the user's screen."""
    memory.keep_freed()
    # TensorFlow's default only where the processor has AVX512-VNNI; with AVX2 alone a training
    # step is 1.2 to 1.7 times as fast with it (tools/bench_train.py --profile).
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    screen = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        # The messages come from C++, before any log level is obeyed.
        os.dup2(nowhere, 2)
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.list_logical_devices()
    finally:
        os.dup2(screen, 2)
        os.close(screen)
        os.close(nowhere)


def help_text(usage):
    """The command's usage and its own flags with their defaults."""
    lines = [usage.strip(), "", "Flags (also from a file: --flagfile=FILE, one flag a line):"]
    for name in sorted(own_flags()):
        flag = FLAGS[name]
        shown = (
            f"--[no]{name}"
            if flag.boolean
            else f"--{name}={'' if flag.default is None else flag.default}"
        )
        lines.append(f"  {shown}")
        lines.append(f"      {flag.help}")
    return "\n".join(lines)


def own_flags():
    """Names of the flags that dah_tf defined."""
    modules = FLAGS.flags_by_module_dict()
    ours = {"dah_tf.terminal.cli", "__main__", sys.argv[0]}
    return {
        flag.name
        for module, group in modules.items()
        if module in ours or module.startswith("dah_tf.")
        for flag in group
        if flag.name not in ("help",)
    }


def resolved():
    """Every flag of dah_tf and its value, as a JSON-able dict."""
    return {name: FLAGS[name].value for name in sorted(own_flags())}


def namespace():
    """`resolved` as a namespace."""
    return types.SimpleNamespace(**resolved())
