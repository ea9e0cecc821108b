"""Draws the example retrievals that a run stores as arrays, in the form of a gallery."""

import numpy as np

from dah_tf.gallery import sheet


def picture(
    query_images, neighbour_images, relevant, distances, query_labels=None, neighbour_labels=None
):
    """Returns a sheet of queries and their nearest neighbours, drawn as in a gallery.

    Args:
        query_images: uint8 `(queries, height, width, 1 or 3)`.
        neighbour_images: uint8 `(queries, neighbours, height, width, 1 or 3)`, nearest first.
        relevant: bool `(queries, neighbours)`.
        distances: int `(queries, neighbours)`, in bits.
        query_labels, neighbour_labels: str `(queries,)` and `(queries, neighbours)`, or None.

    Returns:
        Pillow image, RGB.

    Raises:
        UserError: there are more queries than a sheet can hold.
    """
    if query_labels is None:
        query_labels = np.full(len(query_images), "")
    if neighbour_labels is None:
        neighbour_labels = np.full(np.shape(relevant), "")
    return sheet.draw(
        [
            {
                "query": "",
                "pixels": query,
                "label": str(query_labels[row]),
                "neighbours": [
                    {
                        "rank": place + 1,
                        "distance": int(distances[row, place]),
                        "id": None,
                        "key": "",
                        "label": str(neighbour_labels[row, place]),
                        "pixels": neighbour,
                        "wrong": not relevant[row, place],
                    }
                    for place, neighbour in enumerate(neighbour_images[row])
                ],
            }
            for row, query in enumerate(query_images)
        ]
    )
