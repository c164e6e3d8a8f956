"""ONNX graphs as data: names by module path, and cuts along SCConv blocks."""
