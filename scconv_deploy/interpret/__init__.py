"""An ONNX graph run by torch, operator by operator, in the graph's own types or lifted to wider ones."""
