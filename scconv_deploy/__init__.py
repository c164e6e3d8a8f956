"""Deployment export for PyTorch networks with SCConv (SRU + CRU) blocks.

The pipeline, in the order in which data flow::

    load -> recognise -> lower -> trace -> simplify -> build -> verify -> benchmark -> package

Each word is a file in ``scconv_deploy/stages``; ``scconv_deploy/pipeline.py`` is the only caller.
"""
