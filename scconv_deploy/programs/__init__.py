"""Files that are programs already (ONNX, TorchScript, ``.pt2``) -> modules that the pipeline takes."""
