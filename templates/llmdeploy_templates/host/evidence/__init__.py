"""What the probes of the gateway and of the engine have in common; they run on the machine itself, as root.

Nothing but Python 3.10's standard library is used there, and nothing that outlives a probe is changed.
"""
