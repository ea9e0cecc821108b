"""The profile of a training step: the part of an operation, its arithmetic, and the sums."""

import importlib.util
import pathlib

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("step_profile", ROOT / "tools" / "step_profile.py")
step_profile = importlib.util.module_from_spec(spec)
spec.loader.exec_module(step_profile)

LAYERS = {"compact", "hash_head", "classifier"}
BLOCK = "model_1/compact_1/stage1_1"


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("Conv2D", f"{BLOCK}_conv_1/convolution", step_profile.FORWARD),
        ("_MklNativeConv2D", f"{BLOCK}_conv_1/convolution", step_profile.FORWARD),
        ("_FusedConv2D", f"{BLOCK}_relu_1/Relu", step_profile.FORWARD),
        ("Conv2DBackpropFilter", f"gradient_tape/{BLOCK}_conv/g", step_profile.FILTER),
        ("Conv2DBackpropInput", f"gradient_tape/{BLOCK}_conv/g", step_profile.INPUT),
        ("DepthwiseConv2dNative", "model/compact/separable/d", step_profile.DEPTHWISE),
        ("FusedBatchNormGradV3", f"gradient_tape/{BLOCK}_norm_1/g", step_profile.NORM),
        ("_MklFusedBatchNormV3", f"{BLOCK}_norm_1/FusedBatchNormV3", step_profile.NORM),
        ("AssignVariableOp", f"{BLOCK}_norm_1/AssignVariableOp_1", step_profile.NORM),
        ("MaxPoolGrad", f"gradient_tape/{BLOCK}_pool_1/MaxPoolGrad", step_profile.POOL),
        ("Max", "model_1/compact_1/pool_1/Max", step_profile.POOL),
        ("ReluGrad", f"gradient_tape/{BLOCK}_relu_1/ReluGrad", step_profile.ELEMENTWISE),
        ("Cast", f"{BLOCK}_conv_1/convolution/Cast", step_profile.ELEMENTWISE),
        ("_MklBatchMatMulV2", f"{BLOCK}_conv_1/MatMul_5", step_profile.WINOGRAD),
        ("BatchMatMulV2", f"gradient_tape/{BLOCK}_conv_1/MatMul_4/M", step_profile.WINOGRAD),
        ("Transpose", f"{BLOCK}_conv_1/transpose", step_profile.WINOGRAD),
        ("_FusedMatMul", "model_1/hash_head_1/dense_1/BiasAdd", step_profile.PRODUCT),
        ("MatMul", "gradient_tape/model/classifier/MatMul", step_profile.PRODUCT),
        ("Sigmoid", "model_1/hash_head_1/shrink_sigmoid_1/Sigmoid", step_profile.ELEMENTWISE),
        ("BatchMatMulV2", "loss/MatMul", step_profile.LOSS),
        ("Mul", "gradient_tape/loss/mul_3/Mul", step_profile.LOSS),
        ("MatMul", "muon/matmul_7", step_profile.OPTIMISER_PRODUCT),
        ("Transpose", "muon/transpose_7", step_profile.OPTIMISER),
        ("GatherV2", "model_1/GatherV2", step_profile.AUGMENTATION),
        ("ScaleAndTranslate", "model_1/resize/ScaleAndTranslate", step_profile.AUGMENTATION),
        ("Reshape", "gradient_tape/model_1/Reshape_3", step_profile.ELEMENTWISE),
        (step_profile.COMPILED, step_profile.COMPILED, step_profile.COMPILED),
        ("PyFunc", "tf_data/PyFunc", step_profile.PIPELINE),
        ("IteratorGetNext", "tf_data", step_profile.PIPELINE),
    ],
)
def test_the_part_of_an_operation(kind, name, expected):
    assert step_profile.part(kind, name, "muon", LAYERS) == expected


def test_flops_by_hand():
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        images = tf.zeros((2, 9, 9, 3))
        for stride, padding in ((1, "SAME"), (2, "SAME"), (2, "VALID")):
            kernel = tf.zeros((3, 3, 3, 5))
            y = tf.nn.conv2d(images, kernel, stride, padding, name=f"{padding}{stride}")
            tf.gradients(y, [images, kernel], name=f"g{padding}{stride}")
        kernel = tf.zeros((3, 3, 3, 2))
        y = tf.nn.depthwise_conv2d(images, kernel, [1, 2, 2, 1], "SAME", name="deep")
        tf.gradients(y, [images, kernel], name="gdeep")
        tf.matmul(tf.zeros((7, 4)), tf.zeros((7, 6)), transpose_a=True, name="product")
        tf.matmul(tf.zeros((3, 4, 5)), tf.zeros((3, 6, 5)), transpose_b=True, name="products")
    expected = {
        # The factors are 2 flops, 2 images, 9 x 9 outputs, 5 channels, and a kernel of 3 x 3 x 3.
        "SAME1": 2 * 2 * 81 * 5 * 27,
        "SAME2": 2 * 2 * 25 * 5 * 27,  # the side is ceil(9 / 2) = 5
        "VALID2": 2 * 2 * 16 * 5 * 27,  # the side is (9 - 3) // 2 + 1 = 4
        "deep": 2 * 2 * 25 * 6 * 9,  # each of the 3 x 2 output channels has one input channel
        "product": 2 * 4 * 6 * 7,
        "products": 2 * 3 * 4 * 6 * 5,
    }
    found = {}
    for operation in graph.get_operations():
        if operation.type in {*step_profile.CONVOLUTIONS, *step_profile.PRODUCTS}:
            name = operation.name.split("/")[0].removeprefix("g")
            found.setdefault(name, []).append(step_profile.flops(operation))
    # A convolution costs as much as the gradient of its kernel or that of its input.
    count = {name: 1 if name.startswith("product") else 3 for name in expected}
    assert found == {name: [each] * count[name] for name, each in expected.items()}


def test_names_of_the_optimised_graph():
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        a = tf.zeros((4, 5))
        with tf.name_scope("muon"):
            tf.matmul(a, tf.transpose(a), name="matmul_1")
        with tf.name_scope("dense"):
            product = tf.nn.bias_add(tf.matmul(a, tf.zeros((5, 3))), tf.zeros(3), name="BiasAdd")
        tf.add_n([tf.add_n([product, product], name="AddN"), product], name="AddN_1")
    known = step_profile.Graph(graph)
    assert known.flops("MatMul", "muon/ArithmeticOptimizer/FoldTransposeIntoMatMul_matmul_1") == 160
    assert known.flops("_FusedMatMul", "dense/BiasAdd") == 2 * 4 * 3 * 5
    assert known.flops("Relu", "anything") == 0
    assert known.place("AddN_1/tmp_var_accum_1") == "dense/BiasAdd"
    assert known.place("muon/AddN") == "muon/AddN"


def test_time_is_divided():
    # The step lasts from 0 to 10. a is alone in [1, 3), a and b share [3, 5), b is alone in [5, 6),
    # nothing runs in [6, 9), and c runs in [9, 10). c ends after the step, d before it; e is empty.
    spans = [(1, 5), (3, 6), (9, 12), (-3, -1), (4, 4)]
    assert step_profile.shared(spans, 0, 10) == ([2 + 1, 1 + 1, 1, 0, 0], 1 + 3)
    assert step_profile.shared([(0, 9)] * 3, 0, 9) == ([3, 3, 3], 0)
    assert step_profile.shared([], 2, 5) == ([], 3)


@pytest.fixture(scope="module")
def tiny():
    """Profiles a small network on steps of 12 images of 16 pixels, with 3 classes."""
    from dah_tf import data
    from dah_tf.data import feed, image_sources
    from dah_tf.model import backbones
    from dah_tf.training import optimizers

    backbone = backbones.get("compact:widths=8/16/16")
    model = step_profile.named_model(backbone, 12, 3, 16)
    model.compile(optimizer=optimizers.get("muon:fixed_norm", 1e-3))
    images = image_sources.ArrayImages(np.zeros((60, 16, 16, 3), np.uint8))
    plan = data.GroupPlan(np.repeat(np.arange(3), 20), groups=2, shift=2, image_size=16)
    batches = iter(feed.dataset(plan, images, 0, 100))
    return backbone, step_profile.measure(model, batches, steps=2)


def test_parts_sum_to_the_step(tiny):
    _, profile = tiny
    assert profile.seconds > 0 and profile.untraced > 0
    seconds = {name: each for name, (each, _) in profile.parts.items()}
    assert sum(seconds.values()) == pytest.approx(profile.seconds, rel=1e-6)
    assert sum(each[0] for each in profile.operations) == pytest.approx(
        profile.seconds - seconds["rest"], rel=1e-6
    )
    missing = {name for name, each in seconds.items() if not each > 0}
    assert missing == {step_profile.DEPTHWISE, step_profile.WINOGRAD}
    lines = step_profile.table(profile, slowest=3).splitlines()
    # The lines are a heading, all parts but two, the step, a blank line, a heading, and operations.
    assert len(lines) == 1 + len(seconds) - 2 + 1 + 2 + 3
    assert lines[len(seconds) - 1].split()[:1] == ["step"] and "100.0%" in lines[len(seconds) - 1]


def test_flops_are_the_networks(tiny):
    from dah_tf.model import describe

    backbone, profile = tiny
    # An image needs output side squared x out x kernel x in multiply-adds. The stem has 2x2
    # kernels without padding, so that its side is 15, which is pooled to 7, 3 and 1 in the stages.
    stem = 15 * 15 * 24 * 2 * 2 * 3
    first = 15 * 15 * 8 * 9 * 24
    others = 49 * 8 * 9 * 8 + 49 * 16 * 9 * 8 + 9 * 16 * 9 * 16 + 9 * 16 * 9 * 16 + 1 * 16 * 9 * 16
    head = 16 * 12 + 12 * 3
    assert stem + first + others == describe.multiply_adds(backbone, 16)
    # Newton-Schulz has five steps. For a kernel as a matrix X with sides s <= l, each computes X X'
    # (s s l), its square (s s s), and the product with X (s s l). The stem is not trained.
    shapes = [(216, 8), (72, 8), (72, 16), (144, 16), (144, 16), (144, 16)]
    muon = sum(5 * (2 * short**2 * long + short**3) for long, short in shapes)
    expected = {
        step_profile.FORWARD: 12 * (stem + first + others),
        step_profile.FILTER: 12 * (first + others),
        step_profile.INPUT: 12 * others,  # the input of the first kernel needs no gradient
        step_profile.PRODUCT: 12
        * 3
        * head,  # forward, the gradient of the kernel, and that of the input
        step_profile.OPTIMISER_PRODUCT: muon,
    }
    found = {name: count for name, (_, count) in profile.parts.items() if count}
    assert found == {name: 2 * each for name, each in expected.items()}
    assert profile.flops == 2 * sum(expected.values())


def test_peak():
    assert step_profile.peak("float32", size=64, rounds=2) > 0
