"""Looks at a running gateway on its own machine, from outside and from the kernel's side, and tells what it saw.

These modules run there as root with nothing but Python 3.10's standard library; they change nothing that outlives them.
"""
