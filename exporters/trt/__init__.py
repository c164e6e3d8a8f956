"""From an ONNX graph to a TensorRT plan, one step a file.

``platform`` (which TensorRT) -> ``capability`` (for which GPUs) -> ``graph`` (what the parser may see) ->
``build`` (parse, profile, settings, plan; ``logger`` and ``watch`` beside it) -> ``layers`` -> ``report``.
"""
