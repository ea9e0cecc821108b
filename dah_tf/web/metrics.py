"""What the service counts and measures, in the format of Prometheus."""

import prometheus_client as prometheus

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
STAGES = ("decode", "queue", "encode", "search", "write", "thumbnails")


class Metrics:
    """The measurements of one service, in a registry of its own."""

    def __init__(self):
        self.registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.registry)
        self._requests = self._counter("requests", "Requests.", ["route", "method", "status"])
        self._rejected = self._counter("rejected", "Requests that were refused.", ["reason"])
        self._stages = self._histogram("stage_seconds", "Seconds of each stage.", ["stage"])
        self._batches = prometheus.Histogram(
            "dah_tf_batch_images",
            "Images of each batch of the encoder.",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 24, 32),
        )
        for stage in STAGES:
            self._stages.labels(stage)

    def _counter(self, name, about, labels):
        return prometheus.Counter(f"dah_tf_{name}", about, labels, registry=self.registry)

    def _histogram(self, name, about, labels):
        return prometheus.Histogram(
            f"dah_tf_{name}", about, labels, registry=self.registry, buckets=SECONDS
        )

    def gauge(self, name, about, function):
        """Adds a number that is asked for when the metrics are read."""
        prometheus.Gauge(f"dah_tf_{name}", about, registry=self.registry).set_function(function)

    def request(self, route, method, status):
        """Counts an answered request."""
        self._requests.labels(route, method, status).inc()

    def rejected(self, reason):
        """Counts a request that was refused."""
        self._rejected.labels(reason).inc()

    def stage(self, stage, seconds):
        """Records how long a stage of a request took."""
        self._stages.labels(stage).observe(seconds)

    def batch_was_encoded(self, size):
        """Records the size of a batch of the encoder."""
        self._batches.observe(size)

    def text(self):
        """Returns all measurements as the bytes of a page, and the type of its content."""
        return prometheus.generate_latest(self.registry), prometheus.CONTENT_TYPE_LATEST
