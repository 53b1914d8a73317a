"""Work in threads, whose caller may be gone before they are through."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from maestro.transport.offload import off_loop


def test_who_is_cancelled_waits_for_the_thread_and_what_it_raises_is_no_news():
    begun, go, ended = threading.Event(), threading.Event(), []
    said = []

    def work():
        begun.set()
        go.wait(300)
        ended.append(True)
        raise FileNotFoundError("the directory is gone")

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, about: said.append(about))
        task = asyncio.create_task(off_loop(False, work))
        await asyncio.to_thread(begun.wait, 120)
        task.cancel()
        asyncio.get_running_loop().call_soon(go.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended
        del task
        gc.collect()

    asyncio.run(main())
    assert not said
