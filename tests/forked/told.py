"""What a process sees of itself, as one line of JSON: `python -m tests.forked.told [CODE]`. It exits with that code."""

import json
import os
import sys
import tempfile
import threading
import time

seen = {
    "pid": os.getpid(),
    "argv": sys.argv[1:],
    "folder": os.getcwd(),
    "path": sys.path[0],
    "environment": dict(os.environ),
    "umask": os.umask(0o77),
    "stdin": sys.stdin and sys.stdin.read(),
    "streams": [
        stream and [stream.encoding, stream.errors, stream.line_buffering, stream.write_through, stream.mode, stream.name]
        for stream in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "files": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "temporary": tempfile.gettempdir(),
    "zone": time.tzname[0],
    "threads": threading.active_count(),
}
print(json.dumps(seen))
sys.exit(int(sys.argv[1]) if sys.argv[1:] else None)
