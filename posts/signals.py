"""Sends tasks when posts change."""
