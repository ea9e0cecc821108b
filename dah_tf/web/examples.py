"""Examples of the OpenAPI document, for codes of 36 bits."""

CODE, NEAR = "3fa20c91d0", "3fa20c91c0"

LATENCY = {"decode": 0.8, "queue": 0.1, "encode": 3.2, "search": 0.6, "total": 5.4}
NEIGHBOUR = {"rank": 1, "id": 7, "distance": 1, "key": "photos/cat/7.jpg", "label": "cat"}
ANSWER = {
    "query": {"type": "image", "code": CODE},
    "neighbours": [{**NEIGHBOUR, "code": NEAR}],
    "bits": 36,
    "last_distance": 1,
    "shown": 1,
    "at_last_distance": 4,
    "changes": 3,
    "latency_ms": LATENCY,
}
ITEM = {"id": 7, "key": "photos/cat/7.jpg", "label": "cat", "code": NEAR, "bits": 36}
ADDED = {"ids": [8], "keys": ["new.jpg"], "codes": [CODE], "items": 9, "changes": 4}
FACTS = {
    "version": "0.3.0",
    "items": 9,
    "bits": 36,
    "backend": "flat",
    "recall": 0.95,
    "recall_reached": None,
    "fingerprint": "5e1f0c",
    "changes": 4,
    "megabytes": 0.01,
    "distinct_codes": 9,
    "removed": 0,
    "labels": [{"label": "cat", "items": 5}],
    "label_count": 1,
    "model": {"fingerprint": "5e1f0c", "classes": ["cat"], "image_size": 32, "fits": True},
    "limits": {"k": 10000, "items": 64, "body_bytes": 33554432, "pixels": 67108864},
    "features": {
        "rerank": True,
        "write": False,
        "write_with_key": True,
        "store": False,
        "images": True,
    },
}
SEARCH = {
    "by id": {"value": {"id": 7, "k": 20}},
    "by code": {"value": {"code": CODE, "k": 20, "max_distance": 8}},
}
NEW = {"items": [{"code": CODE, "key": "new.jpg", "label": "cat"}]}
