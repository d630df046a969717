"""Holds many connections that send nothing, or a byte now and then, and says what becomes of them.

slow_senders.py HOST PORT KEY KIND=COUNT... [--until-let-go]

Kinds: idle sends nothing; headers a byte of a header at a time; json, upload and keyless a byte of a body at a time. Once all
are open, one line of JSON says how many there are; fewer where the system allows fewer files. They are held until standard
input ends, or until the server has closed all of them; a last line of JSON has by kind those that are open still, and the
first lines of the answers. Plain Python 3.11, without packages.
"""

import collections
import json
import resource
import selectors
import socket
import sys
import time

TICK_SECONDS = 0.1
# After this, whatever is open is not going to be closed.
PATIENCE_SECONDS = 120
# Files of this process itself.
OWN_FILES = 32

UPLOAD = "PUT /v1/uploads?project=kitobo&dataset_name=slow HTTP/1.1\r\nHost: x\r\n"
JSON = "Content-Type: application/json\r\nContent-Length: 1000000\r\n"
FILE = "Content-Type: text/csv\r\nContent-Length: 1000000\r\n"


def heads(key):
    """What a connection of each kind sends first, and what it goes on with; nothing for those that stay silent."""
    authorization = f"Authorization: Bearer {key}\r\n"
    return {
        "idle": ("", ""),
        "headers": ("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", "x"),
        "json": (f"POST /v1/projects HTTP/1.1\r\nHost: x\r\n{authorization}{JSON}\r\n", " "),
        "upload": (f"{UPLOAD}{authorization}{FILE}\r\n", "x"),
        "keyless": (f"{UPLOAD}{FILE}\r\n", "x"),
    }


def allow_files(wanted):
    """Raises this process's own limit as far as it may, and gives how many connections that leaves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + OWN_FILES if hard == resource.RLIM_INFINITY else min(hard, wanted + OWN_FILES)
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return min(wanted, max(soft, most) - OWN_FILES)


class Attack:
    def __init__(self, address, key, counts):
        self.selector = selectors.DefaultSelector()
        # Of each connection its kind, and what it sends at each tick.
        self.open = {}
        self.answered = set()
        self.answers = collections.defaultdict(collections.Counter)
        kinds = [kind for kind, count in counts.items() for _ in range(count)]
        # Of each kind some, where there is room for fewer than were asked for.
        room = allow_files(len(kinds))
        for number in range(room):
            kind = kinds[number * len(kinds) // room]
            head, more = heads(key)[kind]
            connection = socket.create_connection(address, timeout=30)
            connection.sendall(head.encode())
            connection.setblocking(False)
            self.open[connection] = (kind, more.encode())
            self.selector.register(connection, selectors.EVENT_READ)

    def tick(self):
        """Sends a byte where one is due, and hears what the server says or closes."""
        end = time.monotonic() + TICK_SECONDS
        for connection, (_, more) in list(self.open.items()):
            try:
                connection.send(more)
            except BlockingIOError:
                pass
            except OSError:
                self.close(connection)
        while (left := end - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                if key.fileobj in self.open:
                    self.hear(key.fileobj)

    def hear(self, connection):
        try:
            said = connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self.close(connection)
        elif connection not in self.answered:
            self.answered.add(connection)
            self.answers[self.open[connection][0]][said.split(b"\r\n")[0].decode()] += 1

    def close(self, connection):
        self.selector.unregister(connection)
        del self.open[connection]
        connection.close()

    def left(self):
        return collections.Counter(kind for kind, _ in self.open.values())


def main():
    host, port, key, *rest = sys.argv[1:]
    until_let_go = "--until-let-go" in rest
    counts = {kind: int(count) for kind, count in (word.split("=") for word in rest if "=" in word)}
    attack = Attack((host, int(port)), key, counts)
    print(json.dumps({"open": len(attack.open), "wanted": sum(counts.values())}), flush=True)
    if not until_let_go:
        attack.selector.register(sys.stdin, selectors.EVENT_READ)
    end = time.monotonic() + PATIENCE_SECONDS
    told_to_end = False
    while not told_to_end and time.monotonic() < end and (attack.open or not until_let_go):
        attack.tick()
        ready = attack.selector.select(0) if not until_let_go else []
        told_to_end = any(event.fileobj is sys.stdin for event, _ in ready)
    print(json.dumps({"left": attack.left(), "answers": attack.answers}), flush=True)


main()
