"""Which release this process runs, said from two sides that can disagree."""
import os
import socket

from swiper import variant

# Where the code was loaded from, with links resolved at the time of loading: later the link may
# point elsewhere while this process still runs the old code.
CODE_DIR = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def working_release():
    """The release id of the folder this process stands in: getcwd gives the physical path."""
    return os.path.basename(os.getcwd())


def headers():
    return {
        "X-Version": variant.VERSION,
        "X-Release": working_release(),
        "X-Code": os.path.basename(CODE_DIR),
        "X-Served-By": socket.gethostname(),
    }


def facts():
    return {
        "version": variant.VERSION,
        "release": working_release(),
        "code": CODE_DIR,
        "cwd": os.getcwd(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "master": os.getppid(),
    }
