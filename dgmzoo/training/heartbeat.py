"""`heartbeat`: show that a long stage is still at work, on a terminal by a spinner, elsewhere by a line every half minute."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console

SECONDS = 30.0  # without a line, where there is no terminal


@contextlib.contextmanager
def heartbeat(text: str | Callable[[], str], console: Console | None) -> Iterator[Callable[[], None]]:
    """Show a stage of the work while it lasts.

    Yields a function to call where something else was printed: the next line comes half a minute later.

    Args:
      text: what is being done, such as "compiling"; a function is called for each line.
      console: where to show it; None shows nothing.

    >>> with heartbeat("compiling", None) as printed:
    ...     printed()
    """
    if console is None:
        yield lambda: None
        return
    describe = text if callable(text) else lambda: text
    if console.is_terminal or console.is_jupyter:
        with console.status(describe()):
            yield lambda: None
        return
    start = last = time.monotonic()
    ended = threading.Event()

    def printed() -> None:
        nonlocal last
        last = time.monotonic()

    def beat() -> None:
        while not ended.wait(max(0.01, last + SECONDS - time.monotonic())):
            if time.monotonic() - last >= SECONDS:
                printed()
                with contextlib.suppress(OSError, ValueError):  # the pipe is closed
                    line = f"{describe()} ({time.monotonic() - start:.0f} s)"
                    console.print(line, highlight=False, markup=False, soft_wrap=True)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield printed
    finally:
        ended.set()
        thread.join()
