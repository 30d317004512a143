"""The stack file: its model, its loader, its JSON Schema, and a first one to start from."""
