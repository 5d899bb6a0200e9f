"""VMTrak: an inventory of virtual machines with their credentials."""

from importlib.metadata import version

__version__ = version("vmtrak")
