"""Times `dah_tf.index` against plain faiss, in one run.

    python tools/bench_search.py
    python tools/bench_search.py --codes=codes.npy    a trained model's, uint8 (n, bytes)
    python tools/bench_search.py --items=200000 --rounds=3

Two sets of codes: uniform random ones, and clustered ones made from a trained model's codes. A
clustered item takes the code of a random one of these; or, as often as a further image would have
a code not seen before (Good and Turing: the share of codes seen once), one with 1 to 3 bits of it
flipped. Without --codes, ten made classes stand in for a model.

Each figure is a median over rounds in which the rivals alternate; all raw values are printed.
Opening and memory are measured in fresh processes.
"""

import argparse
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import faiss
import numpy as np

from dah_tf import codes as packed
from dah_tf.index import Index
from dah_tf.machine import cores

CHUNK = 1_000_000

OPENING = """
import sys, time
import numpy as np
from dah_tf.index import Index

def memory():
    with open("/proc/self/status") as file:
        kib = dict(line.split(":") for line in file)
    return [int(kib[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")]

queries = np.load(sys.argv[2])
import faiss
faiss.knn_hamming(queries[:1], queries, 1)
before = memory()
start = time.perf_counter()
index = Index.open(sys.argv[1])
seconds = time.perf_counter() - start
index.search(queries, int(sys.argv[3]))
print(seconds, *(a - b for a, b in zip(memory(), before)))
"""


def uniform(rng, count, bits):
    return packed.pack(rng.integers(0, 2, (count, bits), np.uint8))


def model_codes(rng, options):
    """A trained model's codes, or codes like them."""
    if options.codes:
        return packed.check(np.load(options.codes), options.bits)
    centres = rng.integers(0, 2, (10, options.bits), np.uint8)
    flips = np.minimum(rng.dirichlet([0.2] * options.bits, 10) * 0.03 * options.bits, 0.5)
    seen = rng.integers(0, 10, 50_000)
    return packed.pack(centres[seen] ^ (rng.random((50_000, options.bits)) < flips[seen]))


def clustered(rng, count, source, bits):
    """Codes drawn from a model's, with as many new ones as further images would bring."""
    _, times = np.unique(source, axis=0, return_counts=True)
    drawn = source[rng.integers(0, len(source), count)]
    new = np.flatnonzero(rng.random(count) < (times == 1).sum() / len(source))
    for turn in range(3):
        some = new[rng.integers(1, 4, len(new)) > turn]
        bit = rng.integers(0, bits, len(some))
        drawn[some, bit // 8] ^= (128 >> bit % 8).astype(np.uint8)
    return drawn


def made(kind, options):
    """Database and query codes."""
    rng = np.random.default_rng(0)
    if kind == "uniform":
        chunks = [uniform(rng, CHUNK, options.bits) for _ in range(-(-options.items // CHUNK))]
        return np.concatenate(chunks)[: options.items], uniform(rng, options.queries, options.bits)
    source = model_codes(rng, options)
    return (
        clustered(rng, options.items, source, options.bits),
        clustered(rng, options.queries, source, options.bits),
    )


def alternate(rounds, **rivals):
    """Seconds of each rival in each round, printed; returns the medians."""
    seconds = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, function in rivals.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    for name, each in seconds.items():
        raw = " ".join(f"{s * 1000:.2f}" for s in each)
        print(f"    {name.replace('_', ' '):<22}{statistics.median(each) * 1000:10.2f} ms   {raw}")
    return {name: statistics.median(each) for name, each in seconds.items()}


def plain_faiss(codes, width):
    padded = np.zeros((len(codes), width), np.uint8)
    padded[:, : codes.shape[1]] = codes
    index = faiss.IndexBinaryFlat(width * 8)
    index.add(padded)
    return index


def one_at_a_time(index, queries, k):
    seconds = []
    for query in queries:
        start = time.perf_counter()
        index.search(query[None], k)
        seconds.append(time.perf_counter() - start)
    p50, p99 = (np.percentile(seconds, p) * 1000 for p in (50, 99))
    print(f"    one query at a time    p50 {p50:.2f} ms, p99 {p99:.2f} ms ({len(seconds)} queries)")


def written():
    """Bytes that this process has written so far."""
    with open("/proc/self/io") as file:
        return int(dict(line.split(":") for line in file)["wchar"])


def opening(folder, queries, options):
    """Opens and searches in fresh processes."""
    path = folder / "queries.npy"
    np.save(path, queries)
    runs = []
    for _ in range(options.rounds):
        command = [sys.executable, "-c", OPENING, folder / "index", path, str(options.k)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append([float(word) for word in done.stdout.split()])
    seconds, own, mapped = np.median(runs, axis=0)
    raw = " ".join(f"{run[0]:.3f}" for run in runs)
    needed = options.items * (-(-options.bits // 8) + 8) / 2**20
    print(f"    opening               {seconds:10.3f} s    {raw}")
    print(
        f"    memory after a search {own + mapped:10.0f} MiB  "
        f"({own:.0f} own, {mapped:.0f} mapped), "
        f"{(own + mapped) / needed:.2f} of codes and ids ({needed:.0f} MiB)"
    )


def bench(kind, options, folder):
    codes, queries = made(kind, options)
    distinct, times = np.unique(packed.words(codes), axis=0, return_counts=True)
    print(
        f"{kind}: {len(codes):,} codes of {options.bits} bits, {len(distinct):,} are distinct, "
        f"and the most frequent occurs {times.max():,} times; {len(queries):,} queries"
    )
    start = time.perf_counter()
    index = Index.create(folder / "index", options.bits, codes=codes)
    print(f"    building              {time.perf_counter() - start:10.2f} s")
    opening(folder, queries, options)
    width = codes.shape[1]
    plain = plain_faiss(codes, width)
    wide = plain_faiss(codes, 8 * -(-width // 8))
    wide_queries = np.zeros((len(queries), wide.code_size), np.uint8)
    wide_queries[:, :width] = queries
    expected, found = plain.search(queries, options.k)[0], index.search(queries, options.k)
    if not np.array_equal(expected, found.distances):
        raise SystemExit("the distances differ from those of faiss")
    print(f"  the {options.k} nearest of {len(queries)} queries")
    medians = alternate(
        options.rounds,
        dah_tf=lambda: index.search(queries, options.k),
        faiss=lambda: plain.search(queries, options.k),
        faiss_in_whole_words=lambda: wide.search(wide_queries, options.k),
    )
    for rival in ("faiss", "faiss_in_whole_words"):
        print(f"    {rival.replace('_', ' ')} / dah_tf  {medians[rival] / medians['dah_tf']:.2f}")
    one_at_a_time(index, queries, options.k)
    print(f"  all within radius {options.radius}")
    count = len(index.radius(queries, options.radius).ids)
    medians = alternate(
        options.rounds,
        dah_tf=lambda: index.radius(queries, options.radius),
        faiss_in_whole_words=lambda: wide.range_search(wide_queries, options.radius + 1),
    )
    ratio = medians["faiss_in_whole_words"] / medians["dah_tf"]
    print(f"    full scan / dah_tf  {ratio:.2f}, {count / len(queries):,.0f} items for each query")
    before, start = written(), time.perf_counter()
    index.add(queries[np.arange(1000) % len(queries)])
    seconds = time.perf_counter() - start
    print(f"  adding 1,000 codes writes {written() - before:,} bytes in {seconds:.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--bits", type=int, default=48)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--radius", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kinds", nargs="+", default=["clustered", "uniform"])
    parser.add_argument(
        "--codes", help="codes: a .npy file with codes of --bits bits of a trained model"
    )
    options = parser.parse_args()
    print(
        f"{cores.cores()} cores, {platform.machine()}; Python {platform.python_version()}, "
        f"NumPy {np.__version__}, faiss {faiss.__version__}"
    )
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            bench(kind, options, pathlib.Path(folder))


if __name__ == "__main__":
    main()
