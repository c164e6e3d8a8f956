"""Bundles -> a server that speaks the Open Inference Protocol (KServe v2) over HTTP and gRPC.

``settings`` (what was asked) -> ``repository`` (bundles on disk -> open engines, reloaded when replaced) ->
``batching`` (requests -> batches) -> ``inference`` (one request from protocol to engine and back) -> ``http`` and
``grpc_front`` (the two doors) -> ``server`` (start, drain, stop). Imports neither torch nor the exporting half.
"""
