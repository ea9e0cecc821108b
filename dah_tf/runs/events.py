"""TensorBoard event files, written with the `tensorboard` package alone: no TensorFlow."""

import io
import math
import os
import pathlib
import re
import socket
import time as clock

import numpy as np
from PIL import Image

from dah_tf.files import tfrecord


class Appender:
    """A file that grows by whole records. If a write fails, the file is restored."""

    def __init__(self, path):
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self._size = os.fstat(self._handle).st_size

    def write(self, record):
        rest = memoryview(record)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except BaseException:
            os.ftruncate(self._handle, self._size)
            raise
        self._size += len(record)

    def sync(self):
        os.fsync(self._handle)

    def close(self):
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class Events:
    """A TensorBoard event file, written synchronously and without TensorFlow.

    TensorBoard's own `EventFileWriter` would import TensorFlow if it is installed. It also reports
    a full disk from another thread, when the step is no longer known.

    Args:
        workdir: path of the folder.
        first_step: int. In the older files of the folder, events of this and later steps become
            void.

    Raises:
        ImportError: tensorboard is not installed.
    """

    def __init__(self, workdir, first_step):
        from tensorboard.compat.proto import event_pb2, summary_pb2

        self._event, self._proto = event_pb2, summary_pb2
        # Readers take files in the order of their names, which start with the time in seconds.
        pattern = re.compile(r"events\.out\.tfevents\.(\d+)\.")
        found = [pattern.match(name) for name in os.listdir(workdir)]
        seconds = max([int(clock.time()), *(int(m[1]) + 1 for m in found if m)])
        name = f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{os.getpid()}.0"
        self.file = Appender(pathlib.Path(workdir) / name)
        self._add(clock.time(), file_version="brain.Event:2")
        # TensorBoard ignores a START in a later file if the first file had none, so every file
        # gets one. The first START makes no event void.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(clock.time(), step=first_step, session_log=start)

    def scalars(self, step, values, time):
        self._summary(
            step,
            [
                self._proto.Summary.Value(tag=name, simple_value=float(value))
                for name, value in values.items()
                if math.isfinite(value)
            ],
            time,
        )

    def histogram(self, step, name, values):
        counts, edges = np.histogram(values, bins=30)
        histogram = self._proto.HistogramProto(
            min=values.min(),
            max=values.max(),
            num=values.size,
            sum=values.sum(),
            sum_squares=np.square(values).sum(),
            bucket_limit=edges[1:],
            bucket=counts,
        )
        self._summary(step, [self._proto.Summary.Value(tag=name, histo=histogram)])

    def image(self, step, name, pixels):
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        picture = self._proto.Summary.Image(
            height=pixels.shape[0],
            width=pixels.shape[1],
            colorspace=3,
            encoded_image_string=png.getvalue(),
        )
        self._summary(step, [self._proto.Summary.Value(tag=name, image=picture)])

    def hparams(self, flags, ended):
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        now = clock.time()
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=now)
        for name, value in flags.items():
            shown = start.hparams[name]
            if isinstance(value, bool):
                shown.bool_value = value
            elif isinstance(value, int | float):
                shown.number_value = value
            else:
                # A path may contain bytes that are not text, which protocol buffers refuse.
                shown.string_value = str(value).encode(errors="replace").decode()
        infos = {
            metadata.SESSION_START_INFO_TAG: plugin_data_pb2.HParamsPluginData(
                session_start_info=start
            )
        }
        if ended:
            end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=now)
            infos[metadata.SESSION_END_INFO_TAG] = plugin_data_pb2.HParamsPluginData(
                session_end_info=end
            )
        self._summary(
            0,
            [
                self._proto.Summary.Value(
                    tag=tag,
                    metadata=metadata.create_summary_metadata(info),
                    tensor=metadata.NULL_TENSOR,
                )
                for tag, info in infos.items()
            ],
        )

    def _summary(self, step, values, time=None):
        if values:
            summary = self._proto.Summary(value=values)
            self._add(clock.time() if time is None else time, step=int(step), summary=summary)

    def _add(self, time, **content):
        event = self._event.Event(wall_time=time, **content)
        self.file.write(tfrecord.encode([event.SerializeToString()]))
