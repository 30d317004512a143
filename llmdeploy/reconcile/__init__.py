"""Turns the world into the graph: refresh, diff, apply. Knows resources, types and state; no stack file, no cloud."""
