"""Machines reached locally or over SSH."""
