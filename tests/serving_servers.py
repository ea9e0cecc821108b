"""Servers that answer as TensorFlow Serving does, by the genuine messages, and can misbehave."""

import base64
import collections
import contextlib
import functools
import http.server
import itertools
import json
import select
import socket
import ssl
import struct
import subprocess
import threading
from concurrent import futures

import grpc
import numpy as np
import serving_models
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from dah_tf.serving.c_api import SavedModel
from dah_tf.serving.failure import CODES, ServingError

MAX_BATCH_SIZE = 64
STATUS = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503, "INTERNAL": 500}


@functools.cache
def saved_model():
    return SavedModel(serving_models.model_folder() / "1")


class Served:
    """What both servers share: the model, and a plan of what to do instead of answering.

    Attributes:
        plan: deque; each request takes its first entry: a status code's name to fail with, a
            function to call first, bytes to answer instead, or None.
        batches: list of int, images of each request.
        version: int that the answers tell.
    """

    def __init__(self):
        self.plan, self.batches, self.version = collections.deque(), [], 1
        self.lock = threading.Lock()

    def answer(self, model, version, images):
        """Dict of arrays, or the bytes to answer instead."""
        with self.lock:
            self.batches.append(len(images))
            step = self.plan.popleft() if self.plan else None
        if isinstance(step, str):
            raise ServingError(step, f"planned {step}")
        if callable(step):
            step()
        if isinstance(step, (bytes, dict)):
            return step
        if model != "dah" or version not in (None, 1):
            raise ServingError("NOT_FOUND", f"Servable not found for request: {model} {version}")
        if len(images) > MAX_BATCH_SIZE:
            raise ServingError("INVALID_ARGUMENT", f"Task size {len(images)} is larger than 64")
        return saved_model().run("serving_default", {"image_bytes": images})


class _Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, served):
        self.served = served

    def Predict(self, request, context):
        spec = request.model_spec
        assert spec.signature_name == "serving_default"
        assert not request.output_filter  # TensorFlow Serving would not batch the request
        version = spec.version.value if spec.HasField("version") else None
        images = list(tf.make_ndarray(request.inputs["image_bytes"]))
        try:
            outputs = self.served.answer(spec.name, version, images)
        except ServingError as error:
            context.abort(grpc.StatusCode[error.code], str(error))
        response = predict_pb2.PredictResponse()
        for name, array in outputs.items():
            response.outputs[name].CopyFrom(_as_fields(array))
        response.model_spec.name = spec.name
        response.model_spec.version.value = self.served.version
        return response


def _as_fields(array):
    """A TensorProto with its values in fields, as TensorFlow Serving answers."""
    tensor = tf.make_tensor_proto(array)
    if array.dtype in (np.uint8, np.bool_, np.float32):
        tensor.tensor_content = b""
        field = {"u": "int_val", "b": "bool_val", "f": "float_val"}[array.dtype.kind]
        del getattr(tensor, field)[:]
        getattr(tensor, field).extend(array.ravel().tolist())
    return tensor


@contextlib.contextmanager
def grpc_server(port=0, certificate=None, key=None, client_root=None):
    """Yields a `Served` with its `address`, such as `grpc://127.0.0.1:1234/dah`."""
    served = Served()
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Servicer(served), server)
    if certificate:
        credentials = grpc.ssl_server_credentials(
            [(key.read_bytes(), certificate.read_bytes())],
            client_root.read_bytes() if client_root else None,
            client_root is not None,
        )
        port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    else:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    served.address = f"grpc{'s' if certificate else ''}://127.0.0.1:{port}/dah"
    try:
        yield served
    finally:
        server.stop(None)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body.get("signature_name", "serving_default") == "serving_default"
        images = [base64.b64decode(row["b64"]) for row in body["inputs"]["image_bytes"]]
        path = self.path.removesuffix(":predict").split("/")  # /v1/models/NAME[/versions/N]
        version = int(path[5]) if len(path) > 4 else None
        try:
            outputs = self.server.served.answer(path[3], version, images)
        except ServingError as error:
            self._send(STATUS[error.code], json.dumps({"error": str(error)}).encode())
            return
        if not isinstance(outputs, bytes):
            plain = {
                name: value.tolist() if isinstance(value, np.ndarray) else value
                for name, value in outputs.items()
            }
            outputs = json.dumps({"outputs": plain}).encode()
        self._send(200, outputs)

    def do_GET(self):  # the model's status
        state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK"}}
        self._send(200, json.dumps({"model_version_status": [state]}, indent=1).encode())

    def _send(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class _HTTPServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):  # clients that give up are part of the tests
        pass

    def process_request(self, request, client_address):
        self.served.connections.append(request)
        super().process_request(request, client_address)


@contextlib.contextmanager
def rest_server(port=0, certificate=None, key=None, client_root=None):
    """Yields a `Served` with its `address`, and `connections`, every socket it accepted."""
    served = Served()
    served.connections = []
    server = _HTTPServer(("127.0.0.1", port), _Handler)
    server.served = served
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        if client_root:
            context.load_verify_locations(client_root)
            context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True)
    served.address = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}/dah"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


SERVERS = {"grpc": grpc_server, "http": rest_server}


@contextlib.contextmanager
def breaker(address, *, after, times, reset=True):
    """A relay before a server that breaks off answers.

    Args:
        address: str, the server's.
        after: int, bytes of the answer that still pass.
        times: int, connections that are broken; later ones are not.
        reset: bool; breaks by a reset, else by closing.

    Yields:
        str, the relay's address.
    """
    scheme, _, rest = address.partition("://")
    authority, _, model = rest.partition("/")
    host, _, port = authority.partition(":")
    listener = socket.create_server(("127.0.0.1", 0))

    def relay(near, limit):
        passed = 0
        with near, socket.create_connection((host, int(port))) as far:
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(65536)
                    if source is near:
                        far.sendall(data)
                    else:
                        near.sendall(data if limit is None else data[: limit - passed])
                        passed += len(data)
                    if limit is not None and passed >= limit and reset:
                        # Closing sends a reset where nothing may linger.
                        near.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                    if not data or (limit is not None and passed >= limit):
                        return

    def guarded(*arguments):
        with contextlib.suppress(OSError):
            relay(*arguments)

    def accept():
        with contextlib.suppress(OSError):
            for number in itertools.count():
                near, _ = listener.accept()
                limit = after if number < times else None
                threading.Thread(target=guarded, args=(near, limit), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/{model}"
    finally:
        listener.close()


def certificate(folder, name):
    """Paths of a self-signed certificate for 127.0.0.1 and of its key."""
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(command, check=True, capture_output=True)
    return paths


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


assert set(STATUS) <= set(CODES)
