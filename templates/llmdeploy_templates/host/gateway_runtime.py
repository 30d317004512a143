"""Hands commands to HAProxy's runtime socket (first argument) and prints its replies.

Standard input holds the commands, separated by NUL bytes. Each goes over a connection of its own, as HAProxy wants it. After
"New version created: N", N stands in for the version 0 of the commands that follow.
"""

import re
import socket
import sys

version = b"0"
for command in sys.stdin.buffer.read().split(b"\0"):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(10)
        link.connect(sys.argv[1])
        link.sendall(command.replace(b" @0 ", b" @" + version + b" ", 1))
        reply = b"".join(iter(lambda: link.recv(65536), b""))
    created = re.match(rb"\s*New version created: (\d+)", reply)
    if created:
        version = created[1]
    else:
        sys.stdout.buffer.write(reply)
