"""Authenticators and cards, and the service that talks to them (README.md)."""
