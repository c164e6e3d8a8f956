"""A trusted module that happens to import something dangerous."""

from os import system

__all__ = ["system"]
