"""Where the time of a compiled training step goes, from TensorFlow's trace of real steps.

Each operation that ran on the CPU left its name, type, start and end in the trace. Several run at
a time, so wall time is divided: an instant goes in equal parts to the operations that run in it,
and to the rest where none does. The parts therefore sum to the steps' wall time. Arithmetic is
counted on the shapes of the step's graph, for the operations that ran.
"""

import collections
import dataclasses
import pathlib
import re
import statistics
import tempfile
import time

MODEL, LOSS_SCOPE, FEED, STEP = "model", "loss", "tf_data", "training_step"
COMPILED = (
    "compiled loops"  # those of `dah_tf.layers.cpu.fusion`, whose scopes are not in the trace
)

FORWARD, FILTER, INPUT = (
    "convolution, forward",
    "convolution, filter grad",
    "convolution, input grad",
)
WINOGRAD = "convolution, Winograd"
DEPTHWISE, NORM, POOL = "depthwise convolution", "batch normalisation", "pooling"
ELEMENTWISE, PRODUCT, LOSS = "element-wise, reductions", "matrix product", "loss"
OPTIMISER_PRODUCT, OPTIMISER = "optimiser, products", "optimiser, other"
AUGMENTATION, PIPELINE, REST = "augmentation", "input pipeline", "rest"
PARTS = (FORWARD, FILTER, INPUT, WINOGRAD, DEPTHWISE, NORM, POOL, ELEMENTWISE, COMPILED, PRODUCT)
PARTS += (LOSS, OPTIMISER_PRODUCT, OPTIMISER, AUGMENTATION, PIPELINE, REST)

CONVOLUTIONS = {
    "Conv2D": FORWARD,
    "Conv2DBackpropFilter": FILTER,
    "Conv2DBackpropInput": INPUT,
    "DepthwiseConv2dNative": DEPTHWISE,
    "DepthwiseConv2dNativeBackpropFilter": DEPTHWISE,
    "DepthwiseConv2dNativeBackpropInput": DEPTHWISE,
}
PRODUCTS = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")


def plain(kind):
    """An operation's type without the marks of a fused or a oneDNN kernel."""
    return re.sub(r"^_(Mkl)?(Native)?(Fused)?|WithBias$", "", kind)


def part(kind, name, optimizer, layers):
    """The part of the step that an operation belongs to.

    Args:
        kind: str, its type.
        name: str, its name with its scopes.
        optimizer: str, the optimiser's scope.
        layers: names of the layers right in the model; what else is in its scope augments images.

    Returns:
        str, of `PARTS`.
    """
    if kind == COMPILED:
        return COMPILED
    kind = plain(kind)
    backward = name.startswith("gradient_tape/")
    scopes = [re.sub(r"_\d+$", "", each) for each in name.split("/")][backward:]
    if scopes[0] == FEED or kind == "IteratorGetNext":
        return PIPELINE
    if scopes[0] == optimizer:
        return OPTIMISER_PRODUCT if kind in PRODUCTS else OPTIMISER
    if scopes[0] == LOSS_SCOPE:
        return LOSS
    if kind in CONVOLUTIONS:
        return CONVOLUTIONS[kind]
    if kind in (*PRODUCTS, "Transpose") and any(each.endswith("conv") for each in scopes[:-1]):
        return WINOGRAD
    if kind in PRODUCTS:
        return PRODUCT
    if "BatchNorm" in kind or any(each.endswith("norm") for each in scopes[:-1]):
        return NORM
    if "Pool" in kind or any(each.endswith("pool") for each in scopes[:-1]):
        return POOL
    if scopes[0] == MODEL and not backward and scopes[1] not in layers:
        return AUGMENTATION
    return ELEMENTWISE


def flops(operation):
    """Floating-point operations, two for a multiply-accumulate.

    A gradient of a convolution takes as many as its forward pass; padding counts as pixels do.

    Args:
        operation: `tf.Operation` of a type in `CONVOLUTIONS` or `PRODUCTS`, of static shapes.

    Returns:
        int.
    """
    shapes = [tensor.shape for tensor in (*operation.inputs, operation.outputs[0])]
    if operation.type in PRODUCTS:
        by_rows = "transpose_a" if operation.type == "MatMul" else "adj_x"
        inner = shapes[0][-2 if operation.get_attr(by_rows) else -1]
        return 2 * shapes[-1].num_elements() * inner
    # Inputs: (images, kernel), (images, kernel's size, gradient), (images' size, kernel, gradient).
    kernel = shapes[-1] if operation.type.endswith("Filter") else shapes[1]
    pixels = shapes[2] if "Backprop" in operation.type else shapes[-1]
    height, width, channels, _ = kernel
    if "Depthwise" in operation.type:
        channels = 1
    return 2 * pixels.num_elements() * height * width * channels


class Graph:
    """What the graph that was traced knows about the operations of the optimised one that ran."""

    def __init__(self, graph):
        self.operations = {each.name: each for each in graph.get_operations()}

    def flops(self, kind, name):
        """`flops` of an operation that ran; 0 where it multiplies no matrices."""
        if plain(kind) not in PRODUCTS and plain(kind) not in CONVOLUTIONS:
            return 0
        operation = self.operations[
            name.replace("ArithmeticOptimizer/FoldTransposeIntoMatMul_", "")
        ]
        while operation.type not in PRODUCTS and operation.type not in CONVOLUTIONS:
            operation = operation.inputs[0].op  # a fused operation has the name of its last part
        return flops(operation)

    def place(self, name):
        """A name with its scopes; for a sum of gradients, which has none, the first gradient's."""
        while name.startswith("AddN"):
            name = self.operations[name.split("/")[0]].inputs[0].op.name
        return name


def shared(spans, start, end):
    """Divides the time from `start` to `end` among spans that may overlap.

    Args:
        spans: list of pairs of numbers, begin and end.
        start, end: numbers.

    Returns:
        List of each span's time, and the time in no span; they sum to `end - start`.
    """
    clipped = [(max(a, start), min(b, end)) for a, b in spans]
    edges = sorted((at, i) for i, span in enumerate(clipped) if span[0] < span[1] for at in span)
    times, rest, last, active = [0.0] * len(spans), 0.0, start, set()
    for at, index in [*edges, (end, None)]:
        for each in active:
            times[each] += (at - last) / len(active)
        rest += 0 if active else at - last
        active ^= {index}
        last = at
    return times, rest


def read(path):
    """Operations and steps of a trace.

    Args:
        path: of an `.xplane.pb`.

    Returns:
        List of `(type, name, begin, end)`, and a list of the steps' `(begin, end)`; picoseconds.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace.FromString(pathlib.Path(path).read_bytes())
    ran, steps = [], []
    for plane in space.planes:
        if plane.name != "/host:CPU":
            continue
        for line in plane.lines:
            for event in line.events:
                label = plane.event_metadata[event.metadata_id].name
                begin = 1000 * line.timestamp_ns + event.offset_ps
                span = (begin, begin + event.duration_ps)
                if label == STEP:
                    steps.append(span)
                elif label == "IteratorGetNextOp::DoCompute":
                    ran.append(("IteratorGetNext", FEED, *span))
                elif label.startswith("CpuExecutable::"):
                    ran.append((COMPILED, COMPILED, *span))
                elif found := re.fullmatch(r"([^:\s]+):(_?[A-Z]\w*)", label):
                    # Threads of the input pipeline are named after it.
                    scope = f"{FEED}/" if line.name.startswith(FEED) else ""
                    ran.append((found[2], scope + found[1], *span))
    return ran, steps


@dataclasses.dataclass
class Profile:
    """One step's time, the mean of the traced ones.

    Attributes:
        seconds: float, wall time of a traced step.
        untraced: float, median wall time of as many steps before the trace.
        parts: dict of a part's `(seconds, flops)`, in the order of `PARTS`; they sum to the step's.
        operations: list of each operation's `(seconds, flops, type, name)`, the slowest first.
    """

    seconds: float
    untraced: float
    parts: dict
    operations: list

    @property
    def flops(self):
        return sum(each for _, each in self.parts.values())


def named_model(*args, **kwargs):
    """A `HashModel` of these arguments whose operations have names that `part` knows."""
    import tensorflow as tf

    from dah_tf.model import HashModel

    class Named(HashModel):
        def terms(self, *arguments):
            with tf.name_scope(LOSS_SCOPE):
                return super().terms(*arguments)

    return Named(*args, name=MODEL, **kwargs)


def measure(model, batches, steps):
    """Profiles training steps on the CPU, each with its batch and the reading of its terms.

    Args:
        model: compiled, from `named_model`.
        batches: iterator of what `train_step` takes.
        steps: int.

    Returns:
        `Profile`.
    """
    import tensorflow as tf

    from dah_tf.training import loop

    function = loop.compiled_step(model, tf.distribute.get_strategy())

    def step():
        start = time.perf_counter()
        for term in function(next(batches)).values():
            float(term)
        return time.perf_counter() - start

    step(), step()  # these steps compile
    untraced = statistics.median(step() for _ in range(steps))
    with tempfile.TemporaryDirectory() as folder:
        # Level 3 records the cheap operations too.
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3)
        with tf.profiler.experimental.Profile(folder, options):
            for number in range(steps):
                with tf.profiler.experimental.Trace(STEP, step_num=number, _r=1):
                    step()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        ran, spans = read(path)
    if len(spans) != steps:
        raise RuntimeError(f"The trace should contain {steps} steps. Received: {len(spans)}")
    graph = Graph(function.get_concrete_function(next(batches)).graph)
    heads = (model.hash_head, model.classifier)
    layers = {each.name for each in (model.backbone, *heads)}
    start, end = min(spans)[0], max(spans)[1]
    times, rest = shared([each[2:] for each in ran], start, end)
    parts = {name: [0.0, 0] for name in PARTS}
    operations = collections.defaultdict(lambda: [0.0, 0])
    parts[REST][0] = rest / 1e12 / steps
    for (kind, name, *_), taken in zip(ran, times, strict=True):
        if not taken:
            continue  # it ran before or after the steps
        name = graph.place(name)
        of_part = parts[part(kind, name, model.optimizer.name, layers)]
        for total in (of_part, operations[kind, name]):
            total[0] += taken / 1e12 / steps
            total[1] += graph.flops(kind, name) / steps
    return Profile(
        (end - start) / 1e12 / steps,
        untraced,
        {name: tuple(each) for name, each in parts.items()},
        sorted(((*each, *key) for key, each in operations.items()), reverse=True),
    )


def peak(dtype, size=1024, rounds=10):
    """Highest rate of square matrix products of a type, in floating-point operations a second."""
    import tensorflow as tf

    matrix = tf.cast(tf.random.normal((size, size)), dtype)
    product = tf.function(lambda: tf.reduce_sum(matrix @ matrix))
    seconds = []
    for _ in range(rounds + 1):  # the first round compiles
        start = time.perf_counter()
        float(product())
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[1:])


def table(profile, slowest=0):
    """A profile as text: a line for each part that took time, then the slowest operations."""
    lines = [f"{'part':<26}{'ms per step':>11}{'share':>8}{'GFLOP/s':>9}"]
    for name, each in profile.parts.items():
        if each[0]:
            lines.append(f"{name:<26}{_figures(*each, profile.seconds)}")
    lines.append(f"{'step':<26}{_figures(profile.seconds, profile.flops, profile.seconds)}")
    if slowest:
        lines += ["", "slowest operations"]
    for seconds, count, kind, name in profile.operations[:slowest]:
        lines.append(f"{_figures(seconds, count, profile.seconds)}  {kind} {name}")
    return "\n".join(lines)


def _figures(seconds, count, whole):
    rate = f"{count / seconds / 1e9:9.1f}" if count else f"{'':9}"
    return f"{1e3 * seconds:11.2f}{seconds / whole:8.1%}{rate}"
