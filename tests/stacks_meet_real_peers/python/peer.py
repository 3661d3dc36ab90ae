"""Plays one side of peer connections with aiortc. ../README.md has the words.

aiortc gathers before it describes, so its own candidates are always in its descriptions.
"""

import asyncio
import json
import sys
import traceback

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp

HIGH_WATER = 1 << 20


def pattern(number, size):
    message = bytearray((number + at) % 251 for at in range(min(size, 251)))
    message = (message * (size // 251 + 1))[:size]
    message[:4] = number.to_bytes(4, "little")[: min(size, 4)]
    return bytes(message)


class Session:
    def __init__(self, told):
        self.number = told["session"]
        self.inbox = asyncio.Queue()
        self.over = False
        self.described = asyncio.Event()
        self.tasks = set()
        self.closing = None
        # No server: it would ask Google's.
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.data = self.peer.createDataChannel("data", negotiated=True, id=0)
        self.peer.createDataChannel("negotiation", negotiated=True, id=1)

        @self.data.on("open")
        def opened():
            if told["greet"]:
                self.data.send(pattern(0, 5))
            self.say("open")

        self.data.on("message", self.inbox.put_nowait)
        self.data.on("close", lambda: self.closed("channel"))

        @self.peer.on("connectionstatechange")
        def changed():
            if self.peer.connectionState in ("failed", "closed"):
                self.closed(self.peer.connectionState)

        # aiortc opens a negotiated channel before anybody can listen only if it is connected already.
        assert self.data.readyState == "connecting"

    def say(self, event, **more):
        print(json.dumps({"session": self.number, "event": event, **more}), flush=True)

    def closed(self, why):
        if not self.over:
            self.over = True
            self.say("closed", text=why)
            self.inbox.put_nowait(None)

    def obey(self, told):
        task = asyncio.ensure_future(self.obeying(told))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def obeying(self, told):
        try:
            await getattr(self, "do_" + told["do"])(told)
        except asyncio.CancelledError:
            raise
        except Exception:
            self.say("error", text=traceback.format_exc())

    async def do_start(self, told):
        if told["role"] == "offer":
            await self.describe(await self.peer.createOffer())

    async def do_description(self, told):
        theirs = told["description"]
        await self.peer.setRemoteDescription(RTCSessionDescription(theirs["sdp"], theirs["type"]))
        if theirs["type"] == "offer":
            await self.describe(await self.peer.createAnswer())
        self.described.set()

    async def describe(self, made):
        await self.peer.setLocalDescription(made)
        made = self.peer.localDescription
        self.say("description", description={"type": made.type, "sdp": made.sdp})

    async def do_candidate(self, told):
        await self.described.wait()
        init = told["candidate"]
        if not init["candidate"]:
            await self.peer.addIceCandidate(None)
            return
        candidate = candidate_from_sdp(init["candidate"].removeprefix("candidate:"))
        candidate.sdpMid, candidate.sdpMLineIndex = init["sdpMid"], init["sdpMLineIndex"]
        await self.peer.addIceCandidate(candidate)

    async def do_burst(self, told):
        sizes = told["sizes"]
        for number in range(told["times"] * len(sizes)):
            await self.send(pattern(number, sizes[number % len(sizes)]))
        self.say("sent")

    async def do_expect(self, told):
        sizes = told["sizes"]
        for number in range(told["times"] * len(sizes)):
            message = await self.next()
            expected = pattern(number, sizes[number % len(sizes)])
            if message != expected:
                raise ValueError(f"message {number}: {len(message)} bytes, should be {len(expected)}, or others")
        self.say("got")

    async def do_echo(self, told):
        for _ in range(told["times"]):
            await self.send(await self.next())
        self.say("echoed")

    async def do_close(self, _told):
        await self.close()

    def close(self):
        # Never cancelled half way: aiortc's second close waits for the first one.
        self.closing = self.closing or asyncio.ensure_future(self.peer.close())
        return asyncio.shield(self.closing)

    async def send(self, message):
        while self.data.bufferedAmount > HIGH_WATER:
            await asyncio.sleep(0.001)
        self.data.send(message)

    async def next(self):
        message = await self.inbox.get()
        if message is None:
            raise ValueError("closed")
        return message

    async def end(self):
        self.over = True
        for task in list(self.tasks):
            task.cancel()
        await self.close()


async def main():
    lines = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    session = None
    while line := await lines.readline():
        told = json.loads(line)
        if told["do"] == "start":
            if session:
                ending = asyncio.ensure_future(session.end())  # noqa: F841, kept while it runs
            session = Session(told)
        session.obey(told)
    if session:
        await session.end()


asyncio.run(main())
