"""A retrieval evaluation as a dict that JSON can hold, and as a table of text. NumPy only."""

import numpy as np

from dah_tf import metrics
from dah_tf.errors import UserError
from dah_tf.files.plain import plain

TOP = 1000
RADII = range(5)
RANKS = 100
POINTS = (1, 2, 5, 10, 20, 50, *range(100, TOP + 1, 100))

CONVENTIONS = {
    "relevant": "same class, or at least one label in common",
    "ties": "items at equal distance are tied: expected is the mean over all their orders, "
    "worst and best are the bounds",
    "average_precision": "divided by the number of relevant items retrieved within the cut-off; "
    "0 for a query that retrieves none",
    "top_n": "precision divides by n, or by the size of a smaller database",
    "radius": "precision is 0 for a query with nothing within the radius; precision_nonempty "
    "leaves such queries out, empty is their share",
}


def evaluate(
    query_codes,
    query_labels,
    database_codes,
    database_labels,
    bits,
    protocol,
    class_names=None,
):
    """Measures retrieval quality and the health of the codes.

    Args:
        query_codes: uint8 array of shape `(queries, ceil(bits / 8))`, packed codes.
        query_labels: int array of shape `(queries,)`, or 0/1 array of shape `(queries, classes)`.
        database_codes: uint8 array of shape `(items, ceil(bits / 8))`.
        database_labels: as `query_labels`, for the database.
        bits: int, the code length.
        protocol: dict that JSON can hold, with `name`, `checksum`, `description`, `seed` and
            `counts`.
        class_names: list of str, or None for numbers.

    Returns:
        Dict that JSON can hold. It has None in place of NaN and infinity. Its entries are:
        - `protocol`, `bits`, `queries`, `database` and `conventions`;
        - `map`, `map_at_1000` and `precision_at_1000`: dicts of `expected`, `worst` and `best`;
        - `precision_at_1000_limit`: float, the precision of a perfect ranking, which is below 1 if
          queries have fewer than 1,000 relevant items;
        - `precision_within_radius_2`: float that counts empty results as 0;
        - `within_radius`: list of dicts for the radii 0 to 4;
        - `distances`: the shares of the pairs at each distance from 0 to `bits`, and their mean
          distances, for pairs of a query and a `relevant` item and for all `others`;
        - `bit_balance`: `ones` and `ones_per_zero` of each bit, their extremes, and `dead` bits;
        - `codes`: distinct codes, collisions, entropy, correlation, distances to class centres;
        - `top_curve` (the top 1,000), `rank_curve` (about 100 ranks of the whole database) and
          `radius_curve`: points of expected precision and recall;
        - `per_class`: list of dicts;
        - `class_distances`: matrix, for at most 100 classes;
        - `ndcg`, `ndcg_at_1000` and `weighted_map` for multi-label data. The last one is a mean
          number of shared labels.

    Raises:
        UserError: there is no query, or the database is empty.
        ValueError: the arrays do not fit together.
    """
    if not len(query_codes) or not len(database_codes):
        raise UserError(
            f"protocol {protocol.get('name')} has {len(query_codes)} queries and "
            f"{len(database_codes)} database items, but needs at least one of each; choose another "
            "protocol"
        )
    data = query_codes, query_labels, database_codes, database_labels, bits
    histograms = metrics.histograms(*data)
    precision = metrics.average_precision(*histograms)
    radii = metrics.radius_curve(*histograms)
    within = [_radius(radii, radius) for radius in RADII if radius <= bits]
    curve = metrics.top_curve(*histograms, len(database_codes))
    points = [n for n in POINTS if n <= len(database_codes)]
    ranks = np.unique(np.geomspace(1, len(database_codes), RANKS).round().astype(int)).tolist()
    reachable = np.minimum(histograms[0].sum(axis=1), TOP).mean() / min(TOP, len(database_codes))
    result = {
        "protocol": dict(protocol),
        "bits": bits,
        "queries": len(query_codes),
        "database": len(database_codes),
        "conventions": CONVENTIONS,
        "map": _means(precision),
        f"map_at_{TOP}": metrics.mean_average_precision(*histograms, TOP)._asdict(),
        f"precision_at_{TOP}": metrics.precision_at(*histograms, TOP)._asdict(),
        f"precision_at_{TOP}_limit": reachable,
        "precision_within_radius_2": float(radii.precision[min(2, bits)]),
        "within_radius": within,
        "distances": _distances(*histograms),
        "bit_balance": _balance(database_codes, bits),
        "codes": _codes(database_codes, database_labels, bits),
        "top_curve": _points(curve, points),
        "rank_curve": _points(curve, ranks),
        "radius_curve": {name: list(getattr(radii, name)) for name in radii._fields},
        "per_class": _per_class(precision.expected, query_labels, database_labels, class_names),
    }
    if len(result["per_class"]) <= 100:
        distances = metrics.class_distances(database_codes, database_labels, bits)
        result["class_distances"] = distances.tolist()
    if np.ndim(query_labels) == 2:
        graded = metrics.graded_histograms(*data)
        result["ndcg"] = metrics.ndcg(graded).mean()
        result[f"ndcg_at_{TOP}"] = metrics.ndcg(graded, TOP).mean()
        result["weighted_map"] = metrics.weighted_average_precision(graded).mean()
    return plain(result)


def _means(bounds):
    return {name: float(np.mean(values)) for name, values in bounds._asdict().items()}


def _points(curve, places):
    return {
        "n": places,
        "precision": [curve.precision[n - 1] for n in places],
        "recall": [curve.recall[n - 1] for n in places],
    }


def _radius(curve, radius):
    return {"radius": radius, **{n: float(v[radius]) for n, v in curve._asdict().items()}}


def _distances(relevant, total):
    found = {"relevant": relevant.sum(axis=0), "others": (total - relevant).sum(axis=0)}
    shares = {name: counts / max(counts.sum(), 1) for name, counts in found.items()}
    means = {
        f"{name}_mean": share @ np.arange(len(share)) if found[name].any() else None
        for name, share in shares.items()
    }
    return {**{name: list(share) for name, share in shares.items()}, **means}


def _balance(packed, bits):
    balance = metrics.bit_balance(packed, bits)
    return {
        "ones": list(balance.ones),
        "ones_per_zero": list(balance.ratio),
        "ones_min": balance.ones.min(),
        "ones_max": balance.ones.max(),
        "ones_per_zero_mean": balance.ratio.mean(),
        "dead": balance.dead,
    }


def _codes(packed, labels, bits):
    distinct, shared, items = metrics.collisions(packed, labels, bits)
    each, whole = metrics.bit_entropy(packed, bits)
    correlation = np.abs(metrics.bit_correlation(packed, bits)[~np.eye(bits, dtype=bool)])
    known = correlation[~np.isnan(correlation)]
    centre = metrics.distance_to_centre(packed, labels, bits)
    return {
        "distinct": distinct,
        "shared_by_classes": shared,
        "items_in_shared": items,
        "bit_entropy_mean": each.mean(),
        "code_entropy": whole,
        "correlation_mean": known.mean() if len(known) else None,
        "correlation_max": known.max() if len(known) else None,
        "distance_to_centre": np.nanmean(centre) if not np.isnan(centre).all() else None,
    }


def _per_class(precision, query_labels, database_labels, names):
    query_labels, database_labels = np.asarray(query_labels), np.asarray(database_labels)
    if query_labels.ndim == 1:
        classes = 1 + max(int(query_labels.max()), int(database_labels.max()))
    else:
        classes = query_labels.shape[1]
    means, queries = metrics.class_means(precision, query_labels, classes)
    _, items = metrics.class_means(np.zeros(len(database_labels)), database_labels, classes)
    return [
        {
            "class": names[index] if names else str(index),
            "queries": queries[index],
            "database": items[index],
            "map": means[index],
        }
        for index in range(classes)
        if queries[index] or items[index]
    ]


def table(result):
    """Writes the main figures of `evaluate` as a table, with the conventions.

    Args:
        result: dict from `evaluate`. If `accuracy` was added, it is shown too.

    Returns:
        str of several lines of at most 100 columns, unless the protocol's description is longer.
    """
    protocol = result["protocol"]
    within = {row["radius"]: row for row in result["within_radius"]}
    name, checksum, seed = (protocol.get(key) for key in ("name", "checksum", "seed"))
    counts = [f"{result['queries']:,} queries", f"{result['database']:,} database items"]
    lines = [
        f"protocol {name} (checksum {checksum}, seed {seed}): {protocol.get('description')}",
        ", ".join([*counts, f"{result['bits']} bits"]),
        "",
        f"{'%':<24}{'expected':>9}{'worst':>9}{'best':>9}",
    ]
    for key, name in (
        ("map", "MAP"),
        (f"map_at_{TOP}", f"MAP@{TOP}"),
        (f"precision_at_{TOP}", f"precision@{TOP}"),
    ):
        row = result[key]
        figures = "".join(_percent(row[each], 9) for each in ("expected", "worst", "best"))
        lines.append(f"{name:<24}{figures}")
    for key, name in (
        ("ndcg", "NDCG"),
        (f"ndcg_at_{TOP}", f"NDCG@{TOP}"),
    ):
        if key in result:
            lines.append(f"{name:<24}{_percent(result[key], 9)}")
    if "weighted_map" in result:
        lines.append(f"{'weighted MAP':<24}{result['weighted_map']:>9.4f} (shared labels, not %)")
    if "accuracy" in result:
        lines.append(f"{'classifier accuracy':<24}{_percent(result['accuracy'], 9)}")
    lines += ["", f"{'within radius, %':<24}" + "".join(f"{radius:>9}" for radius in within)]
    for key, name in (
        ("precision", "precision"),
        ("precision_nonempty", "  without empty results"),
        ("recall", "recall"),
        ("empty", "empty results"),
    ):
        lines.append(f"{name:<24}" + "".join(_percent(row[key], 9) for row in within.values()))
    lines += ["", *_health_lines(result), *_reference_lines(result), "", *_convention_lines(result)]
    return "\n".join(lines)


def _percent(value, width):
    return f"{'-':>{width}}" if value is None else f"{100 * value:>{width}.2f}"


def _health_lines(result):
    balance, code = result["bit_balance"], result["codes"]
    ratios = [ratio for ratio in balance["ones_per_zero"] if ratio is not None]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "-"
    dead = f"{balance['dead']} never change" if balance["dead"] else "all of them change"
    centre = code["distance_to_centre"]
    return [
        f"bits: ones to zeros {spread}; {dead}",
        f"codes: {code['distinct']:,} distinct; {code['shared_by_classes']:,} of them shared by "
        f"classes ({code['items_in_shared']:,} items); "
        + (f"{centre:.2f} bits from the class centre" if centre is not None else ""),
    ]


def _reference_lines(result):
    """Returns a line with the MAP of the reference points, or no line if not measured."""
    found, parts = result.get("references") or {}, []
    for key, name in (
        ("one_hot", "predicted class as a {bits}-bit code"),
        ("features_cosine", "{dimensions} float features by cosine"),
        ("random", "random codes"),
    ):
        if key in found:
            score = found[key]["map"]
            value = score["worst"] if score["expected"] is None else score["expected"]
            parts.append(f"{name.format(**found[key])} {100 * value:.2f}")
    return [f"for comparison, MAP: {'; '.join(parts)}"] if parts else []


def _convention_lines(result):
    items = result["database"]
    small = f"MAP@{TOP} is over all {items:,} items, because the database has no more."
    limit = result[f"precision_at_{TOP}_limit"]
    few = (
        f"precision@{TOP} can reach at most {100 * limit:.2f} here: some queries have fewer than "
        f"{TOP:,} relevant items."
    )
    return [
        "Items at equal distance are tied: expected is the mean over all their orders,",
        "worst and best are the bounds.",
        "AP divides by the number of relevant items retrieved, and is 0 if there is none.",
        *([small] if items < TOP else []),
        "Precision within a radius counts empty results as 0.",
        *([few] if limit < 1 else []),
    ]
