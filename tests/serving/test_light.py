"""The client and the check where only NumPy, absl, Pillow, protobuf and grpcio are installed."""

import http.server
import importlib.util
import json
import threading
from concurrent import futures

import numpy as np
import pytest

from dah_tf.errors import UserError
from dah_tf.serving import Client, c_api, messages, over_grpc

ANSWER = {
    "codes": np.array([[0b10100000, 0b01010000], [0, 0]], np.uint8),
    "valid": np.array([True, False]),
    "probabilities": np.array([[0.25, 0.75], [0, 0]], np.float32),
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = {"outputs": {name: array.tolist() for name, array in ANSWER.items()}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


def test_over_http():
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    with Client(f"http://127.0.0.1:{server.server_port}/dah") as client:
        found = client.encode([np.zeros((4, 4, 3), np.uint8), b"no image"], probabilities=True)
    thread.join()
    server.server_close()
    check(found)


def test_over_grpc():
    grpc = pytest.importorskip("grpc", reason="needs grpcio: pip install 'dah_tf[serving]'")

    def predict(_request, _context):
        reply = messages.PredictResponse()
        for name, array in ANSWER.items():
            reply.outputs[name].CopyFrom(messages.to_tensor(array))
        return reply.SerializeToString()

    service, _, method = over_grpc.METHOD.strip("/").partition("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(predict)}
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Client(f"grpc://127.0.0.1:{port}/dah") as client:
        found = client.encode([np.zeros((4, 4, 3), np.uint8), b"no image"], probabilities=True)
    server.stop(None)
    check(found)


def check(found):
    np.testing.assert_array_equal(found.codes, ANSWER["codes"])
    np.testing.assert_array_equal(found.valid, ANSWER["valid"])
    np.testing.assert_array_equal(found.probabilities, ANSWER["probabilities"])


def test_a_model_in_process_needs_tensorflow(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="TensorFlow is not installed: pip install"):
        c_api._library.__wrapped__()  # as if nothing had loaded it yet
