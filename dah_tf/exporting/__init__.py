"""Exports a trained model to files for other programs: SavedModel, ONNX, OpenVINO and LiteRT."""
