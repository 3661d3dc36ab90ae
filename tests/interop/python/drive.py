"""Drives the motor m1 of a robot with Viam's Python SDK, as it is told to.

    drive.py ADDRESS direct|webrtc

Prints `SAID` and a JSON object when connected, and for each line that it reads: `["motor", "set_power", 0.5]`
or `["robot", "refresh"]` calls that method of the SDK. `{"ok": ...}` is what it returned, `{"failed": code,
"why": ...}` the status that it raised. Ends, closing the robot, with its input.
"""

import asyncio
import json
import logging
import sys

from grpclib.exceptions import GRPCError
from viam.components.motor import Motor
from viam.robot.client import RobotClient
from viam.rpc.dial import DialOptions


def say(what):
    print("SAID", json.dumps(what, default=str), flush=True)


async def main(address, way):
    dial = DialOptions(insecure=True, disable_webrtc=way == "direct", timeout=10)
    options = RobotClient.Options(dial_options=dial, log_level=logging.CRITICAL)
    robot = await RobotClient.at_address(address, options)
    try:
        motor = Motor.from_robot(robot, "m1")
        names = [f"{it.namespace}:{it.type}:{it.subtype}/{it.name}" for it in robot.resource_names]
        # What the native library leaves behind when it is killed.
        say({"names": names, "socket": robot._channel._path})
        read = asyncio.get_running_loop().run_in_executor
        while line := await read(None, sys.stdin.readline):
            on, method, *arguments = json.loads(line)
            try:
                say({"ok": await getattr({"motor": motor, "robot": robot}[on], method)(*arguments)})
            except GRPCError as error:
                say({"failed": error.status.name, "why": error.message})
    finally:
        await robot.close()


asyncio.run(main(*sys.argv[1:]))
