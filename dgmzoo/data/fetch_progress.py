"""`console_progress`: print messages and progress bars while a data set is downloaded."""

import contextlib
from collections.abc import Iterator

from dgmzoo.data.lookup import Log, Progress


@contextlib.contextmanager
def console_progress(show: bool = True) -> Iterator[tuple[Log, Progress | None]]:
    """Yield a log and a progress callback for `load_dataset` and `fetch`, which write to standard error.

    Args:
      show: False: the log discards its messages and there is no progress callback.

    >>> from dgmzoo.data import Data, load_dataset
    >>> with console_progress(show=False) as (log, progress):
    ...     load_dataset(Data("toy_rings"), log, progress).shape
    (2,)
    """
    if not show:
        yield lambda message: None, None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as ProgressBars

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    task_of_file: dict = {}
    with ProgressBars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:

        def progress(file: str, bytes_so_far: int, total_bytes: int | None) -> None:
            if file not in task_of_file:
                task_of_file[file] = bars.add_task(file, total=total_bytes)
            bars.update(task_of_file[file], completed=bytes_so_far, total=total_bytes)

        yield lambda message: console.print(message, highlight=False, markup=False), progress
