"""Compiled parts, built from native/ by meson."""
