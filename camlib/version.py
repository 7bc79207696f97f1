"""The version of camlib."""

__version__ = "0.2.0"
