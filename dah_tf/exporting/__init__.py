"""A trained model as files that other programs run: SavedModel, ONNX, OpenVINO, LiteRT."""
