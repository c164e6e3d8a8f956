"""One file per deployment target, named after the artifact it writes.

A new target is one new file here and one entry-point line in ``pyproject.toml``.
"""
