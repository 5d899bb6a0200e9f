"""The `vmtrak` command, one module for each group of commands."""

from vmtrak.cli import demonstration, keys, notices, people, serving
from vmtrak.cli.base import main

__all__ = ["demonstration", "keys", "main", "notices", "people", "serving"]
