"""farlink's robot against Viam's Python SDK. `run` beside this file runs it, in a network namespace.

    check.py DIRECTORY-OF-PROGRAMS

Prints a line for each check; ends with 1 at the first that fails.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = sys.argv[1]
# The robot's, in seconds.
WINDOW = 2.0
# How much later than its window the robot may stop a motor, on a machine that is busy.
SLACK = 1.0
# Longer than anything here takes.
PATIENCE = 30.0

EXPIRED = "stopped by session expiry"


class Program:
    """A program that runs; killed at the end of `with`."""

    def __init__(self, *command):
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.put((time.monotonic(), line.rstrip("\n")))
        self.lines.put((time.monotonic(), None))

    def line(self, start="", within=PATIENCE):
        """When it said the next line that begins like this, and the rest of the line."""
        deadline = time.monotonic() + within
        while True:
            try:
                when, line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line {start!r} within {within} s") from None
            assert line is not None, f"it ended without a line {start!r}"
            if line.startswith(start):
                return when, line.removeprefix(start).strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()


class Operator(Program):
    """Somebody with Viam's Python SDK."""

    def __init__(self, address, way):
        super().__init__(sys.executable, os.path.join(HERE, "drive.py"), address, way)
        self.connected = self.said()

    def call(self, *what):
        self.child.stdin.write(json.dumps(what) + "\n")
        self.child.stdin.flush()
        return self.said()

    def said(self):
        return json.loads(self.line("SAID ")[1])

    def does(self, *what):
        answer = self.call(*what)
        assert "ok" in answer, f"{what}: {answer}"
        return answer["ok"]

    def is_(self, expected, *what):
        got = self.does(*what)
        assert got == expected, f"{what}: {got}, expected {expected}"

    def __exit__(self, *_):
        super().__exit__()
        if self.connected["socket"] and os.path.exists(self.connected["socket"]):
            os.unlink(self.connected["socket"])


def motor(robot, expected, within=PATIENCE):
    """When the motor did this, which has to be the next that it does."""
    when, did = robot.line("MOTOR m1 ", within)
    assert did == expected, f"the motor {did}, expected {expected}"
    return when


def near(got, expected, what):
    assert abs(got - expected) < 0.01, f"{what} {got}, expected {expected}"


def everything_of_a_motor(robot, operator):
    """Every call that the SDK has for a motor, and those that it makes of every robot."""
    assert operator.connected["names"] == ["rdk:component:motor/m1"], operator.connected
    operator.does("motor", "reset_zero_position", 0.0)
    operator.does("motor", "set_power", -0.5)
    motor(robot, "power -0.5")
    operator.is_([True, -0.5], "motor", "is_powered")
    operator.is_(True, "motor", "is_moving")
    operator.does("motor", "stop")
    motor(robot, "stopped by call")
    operator.is_(False, "motor", "is_moving")
    position = operator.does("motor", "get_position")
    assert position < 0.0, f"position {position} after it turned backwards"
    operator.does("motor", "reset_zero_position", 0.0)
    operator.does("motor", "go_for", 60, 0.5)
    motor(robot, "power 0.6")
    motor(robot, "stopped by itself, where it should be")
    near(operator.does("motor", "get_position"), 0.5, "position")
    operator.does("motor", "go_to", 100, 0.0)
    motor(robot, "power -1")
    motor(robot, "stopped by itself, where it should be")
    near(operator.does("motor", "get_position"), 0.0, "position")
    operator.does("motor", "set_rpm", 20.0)
    motor(robot, "power 0.2")
    operator.does("motor", "stop")
    motor(robot, "stopped by call")
    operator.does("motor", "get_properties")
    for method in ("refresh", "get_operations", "get_version"):
        operator.does("robot", method)
    # What the robot does not serve is no reason for the SDK to give up.
    failed = operator.call("robot", "get_machine_status")
    assert failed.get("failed") == "UNIMPLEMENTED", failed
    refused = operator.call("motor", "set_power", 1.5)
    assert refused.get("failed") == "INVALID_ARGUMENT" and "power_pct" in refused["why"], refused


def moves_while_it_lives(robot, operator):
    """One command, and the motor runs for as long as the operator's process does: heartbeats keep it up."""
    operator.does("motor", "set_power", 0.5)
    motor(robot, "power 0.5")
    time.sleep(1.5 * WINDOW)
    operator.is_(True, "motor", "is_moving")


def stops_once_it_is_killed(robot, operator):
    moves_while_it_lives(robot, operator)
    operator.child.kill()
    killed = time.monotonic()
    took = motor(robot, EXPIRED, WINDOW + SLACK) - killed
    assert took > WINDOW / 2, f"stopped {took} s after its operator was killed, the window being {WINDOW} s"
    return f"{took:.2f} s after"


def stops_once_it_is_frozen(robot, operator):
    """A process that stands still for longer than the window is as good as dead; later it drives again."""
    moves_while_it_lives(robot, operator)
    operator.child.send_signal(signal.SIGSTOP)
    motor(robot, EXPIRED, WINDOW + SLACK)
    operator.child.send_signal(signal.SIGCONT)
    # The SDK does not make a call once more whose session had expired; the next begins a new one.
    answer = operator.call("motor", "set_power", 0.3)
    if "ok" not in answer:
        assert answer == {"failed": "INVALID_ARGUMENT", "why": "SESSION_EXPIRED"}, answer
        operator.does("motor", "set_power", 0.3)
    motor(robot, "power 0.3")
    time.sleep(1.5 * WINDOW)
    operator.is_(True, "motor", "is_moving")
    operator.does("motor", "stop")
    motor(robot, "stopped by call")


def stops_once_it_is_closed(robot, operator):
    """The SDK says nothing when it closes, so the motor runs for the rest of the window."""
    operator.does("motor", "set_power", 0.5)
    motor(robot, "power 0.5")
    closed = time.monotonic()
    operator.child.stdin.close()
    # Closing takes the SDK a second, in which it does not beat.
    took = motor(robot, EXPIRED, WINDOW + SLACK) - closed
    code = operator.child.wait(PATIENCE)
    assert code == 0, f"the operator ended with {code}"
    return f"{took:.2f} s after"


CHECKS = (
    everything_of_a_motor,
    stops_once_it_is_killed,
    stops_once_it_is_frozen,
    stops_once_it_is_closed,
)


def main():
    with Program(os.path.join(PROGRAMS, "farlink-signaling"), "--listen", "127.0.0.1:0") as signaling:
        via = signaling.line("LISTENING ")[1]
        # The SDK asks the address that it dials for signaling, and for a robot of that name.
        robot = (os.path.join(PROGRAMS, "examples/robot"), "--insecure", "--host", via, "--signaling", via)
        with Program(*robot, "--window", str(WINDOW)) as robot:
            own = robot.line("LISTENING ")[1]
            robot.line("ANSWERING ")
            ways = {
                "direct": (own, "direct"),
                "webrtc, the robot's own signaling": (own, "webrtc"),
                "webrtc, farlink-signaling": (via, "webrtc"),
            }
            for name, way in ways.items():
                for check in CHECKS:
                    with Operator(*way) as operator:
                        detail = check(robot, operator) or ""
                    print(f"ok  {name}: {check.__name__.replace('_', ' ')} {detail}".rstrip(), flush=True)


# So that what was started ends, too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
try:
    main()
except AssertionError as error:
    sys.exit(f"FAILED: {error}")
