"""For all tests."""

import os
import signal
import tempfile

# A shell that runs tests in the background has them ignore Ctrl-C, and every program that they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test reads or writes the cache of whoever runs it. A name of our own, since other programs keep things in XDG's.
_FOLDER = tempfile.TemporaryDirectory(prefix="m3video-tests-")
os.environ["M3VIDEO_CACHE_DIR"] = _FOLDER.name
