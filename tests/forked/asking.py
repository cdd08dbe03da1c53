"""Asks the server for a fork and ends as that ends: `python -I -S asking.py SOCKET USER -m embedq status`, in the place of `python -m embedq status`.

Standard streams, environment and folder of this process become the fork's. It imports next to nothing: to start it must cost nothing.
"""

import os
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket

SIZE = 4


def asked(
    path: str, head: list[bytes], argv: list[bytes], environment: dict[bytes, bytes], streams: dict[int, int]
) -> tuple[socket, int]:
    """The connection that tells how the fork ends, and its process id. `streams`: its number of each, and ours."""
    connection = socket(AF_UNIX, SOCK_STREAM)
    connection.connect(path)
    own = "".join(map(str, streams)).encode()
    variables = [name + b"=" + value for name, value in environment.items()]
    body = b"\0".join([own, *head, str(len(argv)).encode(), *argv, *variables])
    packed = b"".join(number.to_bytes(4, sys.byteorder) for number in streams.values())
    rights = [(SOL_SOCKET, SCM_RIGHTS, packed)] if packed else []
    connection.sendmsg([len(body).to_bytes(SIZE, "big")], rights)
    connection.sendall(body)
    return connection, number_from(connection)


def number_from(connection: socket) -> int:
    """The next number that the server tells. ConnectionError when it has gone."""
    told = b""
    while len(told) < SIZE:
        more = connection.recv(SIZE - len(told))
        if not more:
            raise ConnectionError("the server of forks has ended")
        told += more
    return int.from_bytes(told, "big", signed=True)


def open_streams() -> dict[int, int]:
    """0, 1 and 2, but for those that are closed."""
    found = {}
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            continue
        found[number] = number
    return found


def main() -> None:
    path, user, *argv = sys.argv[1:]
    umask = os.umask(0)
    os.umask(umask)
    head = [os.getcwdb(), str(umask).encode(), user.encode(), b""]
    connection, _ = asked(path, head, [os.fsencode(word) for word in argv], dict(os.environb), open_streams())
    code = number_from(connection)
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
