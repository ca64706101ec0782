"""A Redis whose every answer comes late: its socket file is taken from it, and behind that stands this."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Thread

CHUNK = 64 * 1024  # bytes


@contextmanager
def late(socket_file: Path, seconds: float) -> Iterator[None]:
    """For who connects meanwhile. Afterwards their connections are closed."""
    server = socket_file.rename(socket_file.with_suffix(".served"))
    relay = partial(_relay, str(server), seconds)
    with asyncio.Runner() as runner:  # which ends, at last, what is under way
        listener = runner.run(asyncio.start_unix_server(relay, str(socket_file)))
        loop = runner.get_loop()
        thread = Thread(target=loop.run_forever)
        thread.start()
        try:
            yield
        finally:
            server.rename(socket_file)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            listener.close()


async def _relay(server: str, seconds: float, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
    with closing(to_client), suppress(OSError, asyncio.CancelledError):
        answers, to_server = await asyncio.open_unix_connection(server)
        with closing(to_server):
            await asyncio.gather(_pass_on(client, to_server), _pass_on(answers, to_client, seconds))


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, seconds: float = 0.0) -> None:
    """Until one of the two ends. Each answer is late by itself: many on the way are no later than one."""
    loop = asyncio.get_running_loop()
    while data := await source.read(CHUNK):
        loop.call_later(seconds, target.write, data)
    loop.call_later(seconds, target.close)
