"""Work in a child process that dies on its way, like an engine that is killed."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable


def killed(do: Callable[[], object]) -> bool:
    """Do something in a child; return whether the child was killed before the end. Any other end
    fails the test.
    """
    pid = os.fork()
    if pid == 0:
        try:
            do()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False
