#!/usr/bin/env bash
# sse-starlette 3.7.0: importing it puts another method in the place of uvicorn's Server.handle_exit,
# for every server of the process. And its first EventSourceResponse starts a task that looks every
# half a second whether the server is to end, and goes on to do so when all streams have ended: a loop
# that once had a client never rests again.
# Seen on CPython 3.11.7, Linux x86-64, with starlette 1.10.0 and uvicorn 0.54.0. So what is to cost
# nothing while nobody looks writes its stream with Starlette alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR="$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    sse-starlette==3.7.0 starlette==1.10.0 uvicorn==0.54.0
cat >"$folder/program.py" <<'PROGRAM'
import asyncio

from uvicorn.server import Server

own = Server.handle_exit

from sse_starlette import EventSourceResponse

print("handle_exit of uvicorn after the import:", "its own" if Server.handle_exit is own else "another")


async def events():
    yield {"data": "one"}


async def receive():
    await asyncio.Event().wait()


async def send(message):
    pass


def others():
    this = asyncio.current_task()
    return sorted(task.get_coro().__name__ for task in asyncio.all_tasks() if task is not this)


async def main():
    print("tasks before a client:", others())
    response = EventSourceResponse(events())
    await response({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
    print("when its stream has ended:", others())
    await asyncio.sleep(3)
    print("three seconds later:", others())


asyncio.run(main())
PROGRAM
cat >"$folder/seen" <<'SEEN'
handle_exit of uvicorn after the import: another
tasks before a client: []
when its stream has ended: ['_shutdown_watcher']
three seconds later: ['_shutdown_watcher']
SEEN
"$folder/venv/bin/python" "$folder/program.py" >"$folder/now"
diff "$folder/seen" "$folder/now"
cat "$folder/now"
