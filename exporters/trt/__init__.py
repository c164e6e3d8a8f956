"""From an ONNX graph to a TensorRT plan, one step a file.

``platform`` (which TensorRT) -> ``capability`` (for which GPUs) -> ``refusals`` (what it cannot do) -> ``graph``
(what the parser may see) -> ``process`` (of its own; its other end is ``child``, ``messages`` go between them) ->
``build`` (``registration`` of plugins, parse, ``profiles``, ``settings``, ``timing_cache``, plan; ``logger`` and
``watch`` beside it, ``diagnosis`` of what is refused) -> ``builds`` (the best of several) -> ``layers`` -> ``report``.
"""
