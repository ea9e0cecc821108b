"""Requests to TensorFlow Serving over gRPC. Needs `grpcio`."""

from google.protobuf.message import DecodeError

from dah_tf.errors import UserError
from dah_tf.serving import addresses, messages
from dah_tf.serving.failure import ServingError

METHOD = "/tensorflow.serving.PredictionService/Predict"

OPTIONS = {
    # Requests and answers may have any size. By default gRPC allows 4 MiB.
    "grpc.max_send_message_length": -1,
    "grpc.max_receive_message_length": -1,
    # The client makes the retries, because it counts them.
    "grpc.enable_retries": 0,
    # After a refused connection, gRPC fails at once until it connects again. By default that is a
    # second later, when the client has used up its first retries.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2000,
    # As over HTTP, the named host is called directly, even if http_proxy is set.
    "grpc.enable_http_proxy": 0,
    # Otherwise all clients of a process would share a connection and its state.
    "grpc.use_local_subchannel_pool": 1,
}


class Grpc:
    """A connection to a model. Several threads may share it.

    Args:
        address: `Address`.
        version: int or None.
        certificates: `Certificates`.

    Raises:
        UserError: grpcio is not installed.
    """

    def __init__(self, address, version, certificates):
        try:
            import grpc
        except ModuleNotFoundError as error:
            raise UserError(
                "gRPC needs grpcio: pip install 'dah_tf[serving]', or use http://HOST:8501/NAME"
            ) from error
        self._address, self._version, self._error = address, version, grpc.RpcError
        options = list(OPTIONS.items())
        if address.secure:
            credentials = grpc.ssl_channel_credentials(
                addresses.read(certificates.root),
                addresses.read(certificates.key),
                addresses.read(certificates.client),
            )
            self._channel = grpc.secure_channel(address.authority, credentials, options)
        else:
            self._channel = grpc.insecure_channel(address.authority, options)
        self._predict = self._channel.unary_unary(METHOD)  # bytes to bytes

    def predict(self, images, timeout):
        """Sends a request.

        Args:
            images: list of bytes.
            timeout: float, seconds.

        Returns:
            Pair of a dict of the name of each output to its array, and the version that answered,
            an int or None.

        Raises:
            ServingError: there is no answer, or it cannot be read.
        """
        request = messages.predict_request(
            {"image_bytes": images}, "serving_default", self._address.model, self._version
        )
        try:
            reply = self._predict(request.SerializeToString(), timeout=timeout)
        except self._error as error:
            raise ServingError(error.code().name, error.details() or "no details") from error
        try:
            response = messages.PredictResponse.FromString(reply)
            outputs = {
                name: messages.from_tensor(tensor) for name, tensor in response.outputs.items()
            }
        except (DecodeError, ValueError) as error:
            raise ServingError("INTERNAL", f"the answer cannot be read: {error}") from error
        spec = response.model_spec
        return outputs, spec.version.value if spec.HasField("version") else None

    def close(self):
        self._channel.close()
