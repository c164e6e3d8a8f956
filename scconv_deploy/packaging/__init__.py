"""A finished bundle -> what other people's servers want to find: a Triton model repository, a KServe manifest.

Nothing is added to the bundle itself; a package is a folder beside it, written whole or not at all.
"""
