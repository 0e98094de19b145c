"""A second factor for every Linux login."""

from __future__ import annotations

__version__ = "0.1.0"
