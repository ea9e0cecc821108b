"""How a command starts and ends."""

import os
import re
import sys
import traceback

from absl import flags

from dah_tf.errors import UserError
from dah_tf.machine import backend, memory, quiet
from dah_tf.runs import recipe

FLAGS = flags.FLAGS


def launch(main, usage, paths=False, keras=True, backends=backend.TRAINING):
    """Runs a command.

    `--help` exits 0; a bad flag, a left-over argument or a `UserError` is one line on stderr and
    exit code 2.

    Args:
        main: function of no arguments, returns an exit code or None.
        usage: str, printed above the flags by `--help`.
        paths: bool; the command takes arguments that are no flags: `main` gets them as a list.
        keras: bool; False for a command that needs no Keras.
        backends: names of Keras' back ends that the command runs on.
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
            backend.check(backends)
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
    """Prints one line and exits with code 2; with DAH_TF_TRACEBACK=1 the traceback before it."""
    if os.environ.get("DAH_TF_TRACEBACK", "0") not in ("", "0"):
        traceback.print_exception(error)
    print(f"error: {' '.join(dashed(str(error)).split())}", file=sys.stderr)
    sys.exit(2)


def dashed(message):
    """A message of the library, which names arguments, as the command line writes them.

    `bits=3` becomes `--bits=3`; so does each name with an underscore, and `workdir`, which are no
    words of a sentence.
    """

    flags_now = own_flags() - recipe.moved().keys()

    def flag(found):
        name = found.group(1)
        known = name in flags_now and (found.group(2) or "_" in name or name == "workdir")
        return f"--{found.group(0)}" if known else found.group(0)

    return re.sub(r"(?<![\w./:'\"-])([a-z]\w*)\b(=?)(?![\w(]*\()", flag, message)


def import_quietly():
    """Imports Keras and its back end without their start-up messages on the user's screen."""
    memory.keep_freed()
    # TensorFlow's default only where the processor has AVX512-VNNI; with AVX2 alone a training
    # step is 1.2 to 1.7 times as fast with it (tools/bench_train.py --profile).
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet.quiet():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.list_logical_devices()


def help_text(usage):
    """The command's usage and its own flags with their defaults."""
    lines = [usage.strip(), "", "Flags (also from a file: --flagfile=FILE, one flag a line):"]
    old = own_flags() & set(recipe.moved()) if recipe.SETTINGS.keys() <= own_flags() else set()
    for name in sorted(own_flags() - old):
        flag = FLAGS[name]
        shown = (
            f"--[no]{name}"
            if flag.boolean
            else f"--{name}={'' if flag.default is None else flag.default}"
        )
        lines.append(f"  {shown}")
        lines.append(f"      {flag.help}")
    if old:
        homes = ", ".join(f"--{name} (--{recipe.moved()[name]})" for name in sorted(old))
        lines += ["", f"Older flags that are options of a part now are still accepted: {homes}."]
    return "\n".join(lines)


def own_flags():
    """Names of the flags that dah_tf defined."""
    modules = FLAGS.flags_by_module_dict()
    ours = {"__main__", sys.argv[0]}
    return {
        flag.name
        for module, group in modules.items()
        if module in ours or module.startswith("dah_tf.")
        for flag in group
        if flag.name not in ("help",)
    }
