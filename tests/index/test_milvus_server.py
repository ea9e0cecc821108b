"""Where an index in Milvus is, what its server says, and what a cluster is asked for."""

import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from index_codes import make

from dah_tf import codes as packed
from dah_tf.errors import UserError
from dah_tf.index import RecallWarning
from dah_tf.index.calibration import found_share
from dah_tf.index.milvus import MilvusIndex, connection, is_milvus, names, storing

REASON = "needs pymilvus and milvus-lite: pip install 'dah_tf[milvus]'"
pymilvus = pytest.importorskip("pymilvus", reason=REASON)
pytest.importorskip("milvus_lite", reason=REASON)


def test_paths():
    parse = names.parse
    assert parse("milvus:http://a:19530/photos")[1:] == ("http://a:19530", "", "photos", False)
    assert parse("milvus:https://a.b/shop/photos")[1:] == ("https://a.b", "shop", "photos", False)
    assert parse("milvus:c/d/x.db/photos")[1:] == ("c/d/x.db", "", "photos", True)
    assert parse("milvus:/x.db/photos").uri == "/x.db"
    assert is_milvus("milvus:x.db/photos") and not is_milvus("photos.index")
    for wrong in (
        *("milvus:", "milvus:photos", "milvus:x/photos", "milvus:x.db", "milvus:x.db/a-b"),
        *("milvus:http://a:19530", "milvus:http://a/b/c/d", "milvus:http:///c", "x.db/photos"),
        *("milvus:http://a/b?c=d", "milvus:x.db/1a", "milvus:x y.db/a", f"milvus:x.db/{'a' * 201}"),
        f"milvus:{'x' * 40}.db/a",
    ):
        with pytest.raises(UserError, match="write a Milvus index as milvus:http"):
            parse(wrong)
    with pytest.raises(UserError, match="MILVUS_TOKEN") as caught:
        parse("milvus:http://me:secret@a:19530/photos")
    assert "secret" not in str(caught.value)


def test_paths_need_no_pymilvus(monkeypatch):
    code = (
        "import sys; from dah_tf.index.milvus import is_milvus, MilvusIndex\n"
        "from dah_tf.index.milvus.names import parse\n"
        "assert is_milvus('milvus:x.db/a') and parse('milvus:x.db/a')\n"
        "sys.exit(bool({'pymilvus', 'grpc', 'tensorflow'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(UserError, match=r"dah_tf\[milvus\]"):
        MilvusIndex.open("milvus:http://localhost:1/photos")


@pytest.mark.parametrize("silent", [False, True])
def test_unreachable(monkeypatch, silent):
    # A port where nobody listens, and one where somebody does and never answers.
    assert connection.CONNECT <= 5
    monkeypatch.setattr(connection, "CONNECT", 1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        if silent:
            listener.listen()
        with pytest.raises(UserError, match=f"cannot reach Milvus at http://127.0.0.1:{port};"):
            MilvusIndex.open(f"milvus:http://127.0.0.1:{port}/photos")


@pytest.mark.slow
@pytest.mark.parametrize(
    "code, message, told",
    [
        (100, "collection not found", "collection not found"),
        (800, "database not found[database=shop]", "has no database"),
        (1400, "auth check failure, please check username and password", "MILVUS_TOKEN"),
        ("StatusCode.UNAUTHENTICATED", "UNAUTHENTICATED: no", "MILVUS_TOKEN"),
        (2, "Fail connecting to server on a:1", "cannot reach Milvus"),
        ("x", "DEADLINE_EXCEEDED: late", "did not answer in time"),
        (65535, "two\nlines " + "x" * 1000, "says: two lines x"),
    ],
)
def test_errors_are_one_line(milvus_path, code, message, told):
    error = MilvusIndex.create(milvus_path, 8)._server._told(code, message)
    assert isinstance(error, UserError) and told in str(error)
    assert "\n" not in str(error) and len(str(error)) < 600
    assert isinstance(error, connection.Gone) == (code == 100)


@pytest.mark.slow
def test_a_file_is_of_one_process(milvus_path, milvus_file):
    MilvusIndex.create(milvus_path, 8)
    code = (
        "import sys; from dah_tf.index.milvus import MilvusIndex\n"
        "try: MilvusIndex.open(sys.argv[1])\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, milvus_path],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "another process has it open" in done.stdout


@pytest.mark.slow
def test_another_process_reads_what_a_killed_one_wrote(tmp_path):
    place = f"milvus:{tmp_path}/own.db/photos"
    code = """if True:
        import os, signal, sys
        import numpy as np
        from dah_tf.index.milvus import connection
        from dah_tf.index.milvus import MilvusIndex

        codes = np.arange(40, dtype=np.uint8)[:, None]
        index = MilvusIndex.create(sys.argv[1], 8, "model-a", codes=codes, keys=["a\\udcff"] * 40)
        index.remove([39])
        try:
            MilvusIndex.open(sys.argv[1] + "x")
        except ValueError:
            pass
        connection.BATCH = 10
        send = connection.Server._upsert

        def kill(server, name, batch):
            if batch[0]["id"] == 60:
                os.kill(os.getpid(), signal.SIGKILL)
            send(server, name, batch)

        connection.Server._upsert = kill
        index.add(codes)
    """
    done = subprocess.run([sys.executable, "-c", code, place], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL and not done.stderr, "pymilvus logs every error"
    index = MilvusIndex.open(place)
    assert (len(index), index.bits, index.fingerprint) == (39, 8, "model-a")
    assert index.describe([0])[0] == ["a\udcff"]
    assert "20 items belong to a change that did not end" in index.verify()
    index.compact()
    assert not index.search(np.arange(39, dtype=np.uint8)[:, None], 1).distances.any()
    assert not index.verify() and len(index) == 39
    assert index.add(np.zeros((1, 1), np.uint8)).tolist() == [40]
    index.close()


@pytest.mark.slow
def test_clusters_are_asked_for_as_milvus_recommends(milvus_path, monkeypatch):
    rng = np.random.default_rng(0)
    # Milvus Lite has no BIN_IVF_FLAT: it gets BIN_FLAT, and what a server would be told is kept.
    asked, built, kept, levels = [], [], {}, []
    search, create = pymilvus.MilvusClient.search, pymilvus.MilvusClient.create_index
    create_collection = pymilvus.MilvusClient.create_collection

    def keep_level(client, name, **kwargs):
        levels.append(kwargs.get("consistency_level"))
        return create_collection(client, name, **kwargs)

    def keep_search(client, *args, **kwargs):
        asked.append(kwargs["search_params"])
        return search(client, *args, **kwargs)

    def keep_index(client, name, params, **kwargs):
        [each] = params
        kept[name] = each.to_dict()["index_type"]
        built.append(each.to_dict())
        flat = client.prepare_index_params()
        flat.add_index("code", index_type="BIN_FLAT", metric_type="HAMMING")
        return create(client, name, flat, **kwargs)

    monkeypatch.setattr(pymilvus.MilvusClient, "search", keep_search)
    monkeypatch.setattr(pymilvus.MilvusClient, "create_index", keep_index)
    monkeypatch.setattr(pymilvus.MilvusClient, "create_collection", keep_level)
    monkeypatch.setattr(connection.Server, "index_type", lambda _, name: kept[name])
    monkeypatch.setattr(storing, "check_backend", lambda *_: None)
    monkeypatch.setattr(storing, "INDEXING", 0)
    codes, queries = make(rng, 36, 400), make(rng, 36, 2)
    with pytest.warns(RecallWarning, match="could not be measured"):
        index = MilvusIndex.create(milvus_path, 36, backend="ivf:recall=0.9", codes=codes)
    # 4 * sqrt(400) clusters. Milvus Lite never says that it has indexed: an eighth is read.
    ivf, facts = built
    assert (ivf["index_type"], ivf["metric_type"], ivf["nlist"]) == ("BIN_IVF_FLAT", "HAMMING", 80)
    assert facts["index_type"] == "BIN_FLAT" and "nlist" not in facts
    # Milvus' default would show a write to readers seconds later.
    assert levels == ["Strong", "Strong"]
    assert not asked
    assert index.stats()["backend"] == "ivf" and not index.verify()
    assert (index.stats()["recall"], index.stats()["recall_reached"]) == (0.9, None)

    def params(read):
        asked.clear()
        read()
        assert {each["metric_type"] for each in asked} == {"HAMMING"}
        return asked[-1]["params"]

    everywhere = {"nprobe": 80, "max_empty_result_buckets": 65535}
    assert params(lambda: index.search(queries, 3)) == {"nprobe": 10}
    assert params(lambda: index.radius(queries, 3)) == everywhere | {"range_filter": 0, "radius": 4}
    exact = MilvusIndex.open(milvus_path, "flat")
    assert params(lambda: exact.search(queries, 3)) == {"nprobe": 80}
    assert params(lambda: index.count_at(queries, [3, 3])) == (
        everywhere | {"range_filter": 3, "radius": 4}
    )
    with pytest.warns(RecallWarning):
        index.replace(codes[:300])
    assert built[-1]["nlist"] == 69
    index.compact("flat")
    assert built[-1]["index_type"] == "BIN_FLAT" and len(built) == 4 and not index.verify()
    assert params(lambda: index.search(queries, 3)) == {}
    with pytest.warns(RecallWarning):
        index.compact("ivf")
    assert built[-1]["nlist"] == 69 and len(built) == 5
    # Nothing is known of what an empty index will hold: lists for a full segment, an eighth read.
    index = MilvusIndex.create(f"{milvus_path}b", 36, backend="ivf")
    assert built[-2]["nlist"] == 12_649
    index.add(codes[:1])
    assert params(lambda: index.search(queries, 3)) == {"nprobe": 1581}


class Clusters:
    """A server's clusters, in NumPy: rows are compared one by one until they are indexed.

    Args:
        codes: uint8 array `(n, 6)`.
        lists: int.
        indexed_after: int, questions for the state of the index after which it has all rows.
        loaded_after: int, searches after which the nodes use it; None is never.
    """

    def __init__(self, codes, lists, indexed_after=3, loaded_after=2):
        rng = np.random.default_rng(0)
        self.codes, self.lists = codes, lists
        self.centres = codes[rng.permutation(len(codes))[:lists]]
        self.lists_of = packed.hamming(codes, self.centres).argmin(axis=1)
        self.indexed_after, self.loaded_after = indexed_after, loaded_after
        self.asked, self.searches, self.queries = [], 0, []

    def flush(self, _):
        self.asked.append("flush")

    def is_indexed(self, _, count):
        assert self.asked[0] == "flush" and count == len(self.codes)
        self.asked.append("indexed")
        return len(self.asked) > self.indexed_after

    def refresh(self, _):
        assert len(self.asked) > self.indexed_after, "before it there is nothing to take up"
        self.asked.append("refresh")

    def some(self, _, expression, fields, limit):
        least = int(expression.removeprefix("id >= "))
        rows = range(least, min(least + limit, len(self.codes)))
        return [{"id": i, "code": [self.codes[i].tobytes()]} for i in rows]

    def search(self, _, queries, limit, expression="", params=None):
        assert "refresh" in self.asked, "what is measured before is not what searches meet"
        self.searches += 1
        whole = self.loaded_after is None or self.searches <= self.loaded_after
        self.queries.append((params["nprobe"], queries))
        order = packed.hamming(queries, self.centres).argsort(axis=1, kind="stable")
        taking = np.zeros((len(queries), self.lists), bool)
        np.put_along_axis(taking, order[:, : self.lists if whole else params["nprobe"]], True, 1)
        apart = packed.hamming(queries, self.codes).astype(np.int32)
        apart[~taking[:, self.lists_of]] = 99
        nearest = apart.argsort(axis=1, kind="stable")[:, :limit]
        found = np.take_along_axis(apart, nearest, axis=1)
        return [(row[row < 99], ids[row < 99]) for row, ids in zip(found, nearest, strict=True)]


def of_clusters(codes, lists=64, recall=0.9):
    about = {"bits": 48, "recall": recall, "backend": "ivf", "next_id": len(codes)}
    return storing.empty("x", about) | {"lists": lists, "items": len(codes)}


@pytest.mark.parametrize("distinct", [None, 3000])
def test_recall_is_measured_on_what_is_indexed_and_loaded(monkeypatch, distinct):
    monkeypatch.setattr(storing, "PAUSE", 0)
    rng = np.random.default_rng(0)
    codes = make(rng, 48, 6000, distinct)
    server, facts = Clusters(codes, 64), of_clusters(codes)
    storing.tune(server, facts)
    assert server.asked == ["flush", "indexed", "indexed", "indexed", "refresh"]
    new = make(rng, 48, 300) if distinct is None else make(np.random.default_rng(0), 48, 6000, 4000)
    queries = new[rng.permutation(len(new))[:300]]

    def asked(probes):
        return storing._distances(server, facts, queries, 10, probes)

    real = found_share(asked(facts["probes"]), asked(64))
    assert real > 0.9 - storing.NOISE and facts["reached"] > 0.9 - storing.NOISE
    if distinct is None:
        assert abs(real - facts["reached"]) < 0.04 and facts["probes"] > 8
        # No query of a measurement is a stored code.
        tried = [each for probes, each in server.queries if probes < 64 and len(each) > 100]
        stored = {code.tobytes() for code in codes}
        assert tried and not stored & {query.tobytes() for query in np.concatenate(tried)}


@pytest.mark.parametrize("never", ["indexed", "loaded"])
def test_what_is_not_indexed_is_not_measured(monkeypatch, never):
    monkeypatch.setattr(storing, "PAUSE", 0)
    monkeypatch.setattr(storing, "INDEXING", 0.05 if never == "indexed" else 60)
    monkeypatch.setattr(storing, "LOADING", 0.05)
    codes = make(np.random.default_rng(0), 48, 3000)
    late = {"indexed_after": 10**9} if never == "indexed" else {"loaded_after": None}
    server, facts = Clusters(codes, 64, **late), of_clusters(codes)
    with pytest.warns(RecallWarning, match="run compact later to measure it"):
        storing.tune(server, facts)
    assert (facts["probes"], facts["reached"]) == (8, None)
