"""Times `dah_tf.evaluation.retrieval` against the usual loop of one argsort a query, in one run.

    python tools/bench_metrics.py
    python tools/bench_metrics.py --items=10000000 --loop_queries=0

Two kinds of codes: like a trained network's (near their class's code, one in ten near another's)
and uniform random ones. `retrieval` is MAP, MAP@1000, precision@1000, radius 2 and bit balance;
`everything` is all that evaluation.json holds. The loop computes MAP alone, for the first queries
only, and its time is given by 1,000 queries. The database lies in files that are mapped into
memory. Rounds alternate; medians and all raw values are printed.
"""

import argparse
import pathlib
import platform
import resource
import statistics
import tempfile
import time

import numpy as np

from dah_tf import codes, metrics
from dah_tf.evaluation import retrieval
from dah_tf.machine import cores

PROTOCOL = {"name": "benchmark", "checksum": None, "description": "generated codes", "seed": 0}


def make(kind, folder, options):
    """Query codes and labels, and database codes and labels mapped from files."""
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 2, (10, options.bits), np.uint8)
    # One bit in 36 differs from that of the class. A few bits differ much more often than others.
    flips = np.minimum(rng.dirichlet([0.2] * options.bits, 10) * 0.03 * options.bits, 0.5)

    def part(count):
        labels = rng.integers(0, 10, count)
        if kind == "trained":
            seen = np.where(rng.random(count) < 0.1, rng.integers(0, 10, count), labels)
            bits = centres[seen] ^ (rng.random((count, options.bits)) < flips[seen])
        else:
            bits = rng.integers(0, 2, (count, options.bits), np.uint8)
        return codes.pack(bits), labels

    for name, count in (("query", options.queries), ("database", options.items)):
        chunks = [part(min(1_000_000, count - i)) for i in range(0, count, 1_000_000)]
        for content, arrays in zip(("codes", "labels"), zip(*chunks, strict=True), strict=True):
            np.save(folder / f"{name}_{content}.npy", np.concatenate(arrays))
    names = ("query_codes", "query_labels", "database_codes", "database_labels")
    return [np.load(folder / f"{name}.npy", mmap_mode="r") for name in names]


def end_of_training(data, bits):
    """What the end of a training run needs."""
    histograms = metrics.histograms(*data, bits)
    result = metrics.mean_average_precision(*histograms)
    metrics.mean_average_precision(*histograms, 1000)
    metrics.precision_at(*histograms, 1000)
    metrics.precision_within(*histograms, 2)
    metrics.bit_balance(data[2], bits)
    return result


def usual_loop(data, bits, queries):
    """MAP by sorting the database for each query; ties in whatever order."""
    ours, theirs = (2.0 * codes.unpack(data[i], bits).astype(np.float32) - 1 for i in (0, 2))
    labels, values = np.asarray(data[3]), []
    for query in range(queries):
        distance = 0.5 * (bits - theirs @ ours[query])
        hits = labels[np.argsort(distance)] == data[1][query]
        places = np.flatnonzero(hits) + 1.0
        values.append(np.mean(np.arange(1, len(places) + 1) / places) if len(places) else 0.0)
    return float(np.mean(values))


def timed(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def shown(seconds):
    return f"{statistics.median(seconds):8.2f} s   " + " ".join(f"{s:.2f}" for s in seconds)


def run(kind, options, folder):
    data = make(kind, folder, options)
    bits, looped = options.bits, min(options.loop_queries, options.queries)
    print(f"{kind}: {options.queries:,} queries x {options.items:,} codes of {bits} bits")
    times = {"retrieval": [], "everything": [], "loop": []}
    for _ in range(options.rounds):
        seconds, _ = timed(end_of_training, data, bits)
        times["retrieval"].append(seconds)
        seconds, result = timed(retrieval.evaluate, *data, bits, PROTOCOL)
        times["everything"].append(seconds)
        if looped:
            seconds, by_sorting = timed(usual_loop, data, bits, looped)
            times["loop"].append(seconds / looped * 1000)
    print(f"  distinct codes   {result['codes']['distinct']:,}")
    print(f"  retrieval      {shown(times['retrieval'])}")
    print(f"  everything     {shown(times['everything'])}")
    if not looped:
        return
    print(f"  loop, 1,000 queries {shown(times['loop'])}   ({looped} timed)")
    sample = metrics.mean_average_precision(
        *metrics.histograms(data[0][:looped], data[1][:looped], *data[2:], bits)
    )
    if not sample.worst - 1e-6 <= by_sorting <= sample.best + 1e-6:
        raise SystemExit(f"the MAP of the loop, {by_sorting}, is outside of the bounds {sample}")
    loop = statistics.median(times["loop"]) * options.queries / 1000
    for name in ("retrieval", "everything"):
        print(f"  loop / {name:<11}{loop / statistics.median(times[name]):8.0f} times")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--bits", type=int, default=36)
    parser.add_argument(
        "--loop_queries",
        type=int,
        default=300,
        help="loop_queries: the queries that a plain loop evaluates; 0 leaves the loop out",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=["trained", "uniform"])
    options = parser.parse_args()
    print(
        f"{cores.cores()} cores, {platform.machine()}; Python {platform.python_version()}, "
        f"NumPy {np.__version__}"
    )
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            run(kind, options, pathlib.Path(folder))
        print(f"  peak memory so far {peak_mib():.0f} MiB")


if __name__ == "__main__":
    main()
