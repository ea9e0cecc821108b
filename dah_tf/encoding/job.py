"""Encodes a source into a folder of codes, shard by shard, and continues where it was stopped.

CODES/.work/items, starts.npy  the list of files, which is fixed when the job begins
CODES/.work/job.json           the images and the model of the job; it is written after the list
CODES/shards/NUMBER            a complete shard, which is renamed to this name when it is written
CODES/manifest.json            written when all shards exist; .work is deleted then
"""

import hashlib
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np

from dah_tf import pretrained, runtimes
from dah_tf.codes import archive
from dah_tf.encoding import listing
from dah_tf.encoding.encoder import Encoder, equal_codes, find_model
from dah_tf.errors import UserError
from dah_tf.files import durable
from dah_tf.terminal.progress import Progress

WORK, JOB = ".work", "job.json"


class Job:
    """A folder of codes that is not complete yet. The caller must hold its lock.

    Args:
        folder: path of the folder of codes, in which a job was begun.
        model: path of the SavedModel. None is the path at the start of the job.
    """

    def __init__(self, folder, model=None):
        self.folder = pathlib.Path(folder)
        self.facts = json.loads((self.folder / WORK / JOB).read_bytes())
        self.model = model or self.facts["model"]
        self.source = listing.open_source(self.folder / WORK, self.facts["source"])

    def missing(self):
        """Returns the numbers of the shards that do not exist yet: an ascending list of int."""
        done = archive.done(self.folder)
        return [shard for shard in range(self.source.shards) if shard not in done]

    def items_of(self, shards):
        """Returns the number of rows of some shards."""
        return sum(last - first for first, last in map(self.source.span, shards))

    def progress(self, shards):
        """Makes a progress line over all rows, of which those of `shards` are still missing."""
        total, rest = self.source.items, self.items_of(shards)
        if rest < total:
            print(
                f"{total - rest:,} of {total:,} images are encoded already; the others follow",
                flush=True,
            )
        return Progress(total, 1, start_step=total - rest, every=10.0, unit="image")

    def encode_missing(self, encoder, batch_size=runtimes.BATCH):
        """Encodes the missing shards in this process, and shows the progress.

        Args:
            encoder: `Encoder`.
            batch_size: int.
        """
        shards = self.missing()
        before = self.source.items - self.items_of(shards)
        with self.progress(shards) as shown:
            for done, broken in self.encode(encoder, shards, batch_size):
                shown.update(before + done, {"broken": broken})

    def encode(self, encoder, shards, batch_size=runtimes.BATCH):
        """Encodes shards, and writes each of them as soon as it is complete.

        Args:
            encoder: `Encoder`.
            shards: list of int, ascending.
            batch_size: int.

        Yields:
            After each batch and each shard, two ints: the finished rows, and the broken images
            among them.

        Raises:
            OSError: the disk is full or not writable, or the list of images cannot be read.
            UserError: the encoder has another model.
        """
        if encoder.fingerprint != self.facts["fingerprint"]:
            raise UserError(
                f"{encoder.path} is not the model with which {self.folder} was begun; name that one"
            )
        done = broken = 0
        stream = encoder.stream(self.source.dataset(shards), self.source.contents, batch_size)
        pieces, batch = [], None  # the parts of the current shard; the rest of the last batch
        for shard in shards:
            first, last = self.source.span(shard)
            while True:
                batch = batch if batch is not None else next(stream, None)
                if batch is None:
                    break
                count = int(np.searchsorted(batch[0], last))
                pieces.append(_rows(batch, slice(None, count)))
                if count < len(batch[0]):
                    batch = _rows(batch, slice(count, None))
                    break
                batch = None
                if pieces[-1][0][-1] < last - 1:
                    yield done + int(pieces[-1][0][-1]) + 1 - first, broken
            broken += self._write(encoder, shard, pieces)
            done += last - first
            pieces = []
            yield done, broken

    def _write(self, encoder, shard, pieces):
        """Writes a shard from encoded pieces. Returns the number of broken rows."""
        self.source.check()
        first, last = self.source.span(shard)
        keys = self.source.keys(shard)
        there = {row for piece in pieces for row in piece[0].tolist()}
        broken = []
        for row in range(first, last):
            if row not in there:
                piece, reason = self._once_more(encoder, row)
                if reason is None:
                    pieces.append(piece)
                else:
                    broken.append((os.fsdecode(keys[row - first]), reason))
        empty = np.zeros(0, np.int64), np.zeros(0, "S1"), archive.no_codes(encoder.bits)
        rows, labels, codes = map(np.concatenate, zip(empty, *pieces, strict=True))
        order = np.argsort(rows)
        keys = [keys[row - first] for row in rows[order]]
        labels = list(labels[order])
        job = self.facts.get("job")  # a job that an older dah_tf began does not have it
        archive.write_shard(self.folder, shard, codes[order], keys, labels, broken, job)
        return len(broken)

    def _once_more(self, encoder, row):
        """Encodes a row that was left out. Returns a piece and None, or None and the reason."""
        label, what, reason = self.source.entry(row)
        if reason is not None:
            return None, reason
        outputs, reason = encoder.once_more(self.source.contents, what)
        if outputs is None:
            return None, reason
        return (np.array([row]), np.array([label], "S"), outputs["codes"]), None

    def finish(self):
        """Writes the manifest when all shards exist. Returns its content."""
        facts = {name: self.facts[name] for name in ("bits", "fingerprint", "input", "settings")}
        # A job that an older dah_tf began took every file for an image.
        facts["ignored"] = self.facts["source"].get("ignored", {})
        content = archive.finish(self.folder, self.source.shards, facts)
        shutil.rmtree(self.folder / WORK, ignore_errors=True)
        return content


def _rows(batch, rows):
    """Returns some rows of a batch: a tuple of row numbers, labels and codes."""
    codes = batch[2]["codes"] if isinstance(batch[2], dict) else batch[2]
    return batch[0][rows], batch[1][rows], codes[rows]


def run(
    model,
    spec,
    output,
    *,
    labels="auto",
    skip=(),
    shard_items=8192,
    data_dir=None,
    runtime=None,
    work=None,
):
    """Encodes images into a folder of codes, or continues one.

    Args:
        model: path, as in `find_model`.
        spec: str, as in `listing.make`.
        output: path of the folder of codes.
        labels, shard_items, data_dir: as in `listing.make`. A job that was begun before keeps its
            `shard_items`.
        runtime: str, the format that encodes. If its codes differ from those of the model, it must
            not change during the job. None is any format that gives the codes of the model.
        skip: paths of folders of codes. Images that are in one of them are left out.
        work: function that takes a `Job` and writes all missing shards. None encodes in this
            process, by `runtime`.

    Returns:
        Dict, the content of the manifest.

    Raises:
        UserError: an argument is wrong, there is nothing to encode, another process writes to the
            folder, the folder contains something else, or the disk is full. The images that were
            encoded are kept.
    """
    path, description = find_model(model)
    folder = pathlib.Path(output)
    if not spec.startswith(("list:", "tfds:")):
        spec = os.path.normpath(spec)
    fixed = spec.startswith("tfds:") or os.path.isabs(spec.removeprefix("list:"))
    facts = {
        "input": spec,
        "fingerprint": description["fingerprint"],
        "settings": {
            "labels": labels,
            "skip": [str(each) for each in skip],
            "mirror": description.get("mirror", False),
            # The folder in which relative keys start.
            "directory": None if fixed else os.getcwd(),
        },
        "bits": description["bits"],
        # A ready-made model is stored by its name, because each machine unpacks it for itself.
        "model": str(model if pretrained.is_name(model) else path.absolute()),
    }
    if runtime:
        runtimes.check_present(runtime, path)
        if not equal_codes(runtime, description):
            facts["settings"]["runtime"] = runtime
    try:
        _check_folder(folder)
        with tempfile.TemporaryDirectory() as aside:
            source = None
            if not any(each.exists() for each in (folder / archive.MANIFEST, folder / WORK / JOB)):
                # The list is made before the folder, because there may be nothing to encode.
                source = listing.make(
                    spec,
                    aside,
                    labels,
                    description["class_names"],
                    _known(skip),
                    shard_items,
                    data_dir,
                )
            (folder / archive.SHARDS).mkdir(parents=True, exist_ok=True)
            with durable.Lock(folder):
                if source and not (folder / WORK / JOB).exists():
                    name = _name(facts, source, aside)
                    archive.check_shards(folder, name)
                    _begin(folder / WORK, aside, {**facts, "source": source, "job": name})
                return _go_on(folder, facts, work or _here(runtime))
    except durable.Busy as busy:
        raise UserError(
            f"{output} is being written by another process (pid {busy.pid}); wait for it, or name "
            "another output"
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot write to {output}: {error.strerror or error}; the images that were encoded "
            "are kept"
        ) from error


def _check_folder(folder):
    """Refuses a folder that contains other files than codes."""
    if not folder.is_dir():
        if folder.exists():
            raise UserError(f"{folder} is a file; name a folder")
        return
    mine = {".lock", WORK, archive.SHARDS, archive.MANIFEST, archive.BROKEN}
    others = {each.name for each in folder.iterdir()} - mine
    if (folder / archive.SHARDS).is_dir():
        others |= {
            f"{archive.SHARDS}/{each.name}"
            for each in (folder / archive.SHARDS).iterdir()
            if not each.name.isdecimal()
        }
    others = {name for name in others if not name.endswith(".tmp")}
    if others:
        raise UserError(
            f"{folder} contains other files, such as {min(others)}; name another folder"
        )


def _name(facts, source, listing):
    """Returns a str that identifies the content of a job's shards."""
    name = hashlib.sha256()
    of_source = {key: source.get(key) for key in ("items", "shard_items", "full_name", "split")}
    of_model = {key: facts[key] for key in ("fingerprint", "bits", "settings")}
    name.update(json.dumps({**of_source, **of_model}, sort_keys=True).encode())
    for path in sorted(pathlib.Path(listing).iterdir()):
        with open(path, "rb") as file:
            name.update(hashlib.file_digest(file, "sha256").digest())
    return name.hexdigest()


def _begin(work, listing, facts):
    """Begins a job. `job.json` is written last; until it exists, the rest is written again."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for path in pathlib.Path(listing).iterdir():
        shutil.copyfile(path, work / path.name)
        durable.sync(work / path.name)
    with durable.replacing(work / JOB) as file:
        file.write(json.dumps(facts).encode())
    durable.sync(work.parent)
    durable.sync(work.parent.absolute().parent)


def _go_on(folder, facts, work):
    """Does the rest of a job. Returns the content of the manifest."""
    if (folder / archive.MANIFEST).exists():
        content = archive.read_manifest(folder)
        _check_same(folder, content, facts)
        shutil.rmtree(folder / WORK, ignore_errors=True)
        print(
            f"{folder} is complete; to encode new images, name another folder and --skip={folder}"
        )
        return content
    job = Job(folder, facts["model"])
    _check_same(folder, job.facts, facts)
    archive.drop_unfinished(folder)
    if job.missing():
        work(job)
    return job.finish()


def _here(runtime):
    """Encodes in this process; see `run`."""
    return lambda job: job.encode_missing(Encoder(job.model, runtime))


def _check_same(folder, found, wanted):
    """Refuses to continue a job with other images, other settings or another model."""
    for name, what in (
        ("input", "other images"),
        ("fingerprint", "another model"),
        ("settings", "other settings"),
    ):
        if found[name] != wanted[name]:
            raise UserError(
                f"{folder} contains codes of {what} ({found[name]}, not {wanted[name]}); "
                "name another folder"
            )


def _known(skip):
    """Returns the absolute paths of the images in folders of codes: a set of str."""
    paths = set()
    for path in skip:
        codes = archive.Codes.open(path)
        for _, keys, _ in codes.shards():
            paths |= {archive.place(key, codes.directory) for key in keys}
    return paths
