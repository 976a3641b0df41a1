"""The runtime's side of the channel after HELLO."""

from json import dumps, loads
from warnings import simplefilter

from .call_handler import HandlerCall
from .channel import quote
from .code_cache import compile_tree, use_code_cache
from .context import Context
from .environment import set_environment, set_trace_id
from .errors import Fault, error_members
from .frames import (
    COMPILE,
    COMPILED,
    ERROR,
    INIT,
    INIT_ERROR,
    INVOKE,
    PING,
    PONG,
    READY,
    RESPONSE,
    ProtocolViolation,
)
from .http_response import http_response
from .job import Job
from .load_handler import load_handler, own_folders
from .result import check_size, marshal

_BLANK = "blank"
_IDLE = "idle"
_BUSY = "busy"
_FAILED = "failed"
_COMPILED = "compiled"

_INIT_FIELDS = {
    "handler": str,
    "functionName": str,
    "functionVersion": str,
    "functionArn": str,
    "memoryMb": (int, float),
    "environment": dict,
    "logGroup": str,
    "logStream": str,
    "concurrency": int,
    "realm": str,
}
_INVOKE_FIELDS = {"id": str, "deadlineMs": (int, float), "arn": str, "traceId": str, "clientContext": str}


class Conversation:
    """States: blank → (INIT) busy → idle or failed; idle → (INVOKE) busy → idle; blank → (COMPILE) busy → compiled.

    The main thread handles frames and runs user code, one after the other. PING is
    answered in every state; any other frame in another state is a violation. After
    INIT_ERROR (failed) and the last COMPILED only the agent ends the conversation.

    The state changes before the frame that tells the agent is sent, so that the agent's
    next frame always finds the new state, whichever thread receives it.
    """

    def __init__(self, channel, logs, task_root, code_cache, preload):
        self._channel = channel
        self._logs = logs
        self._task_root = task_root
        self._code_cache = code_cache
        self._preload = preload
        self._state = _BLANK
        self._init = None
        self._call = None

    def answer_ping(self, frame):
        """For any thread. False when the frame is one for the main thread. Raises ProtocolViolation."""
        if frame.type == PING:
            self._channel.send(PONG, "{}")
            return True
        if self._state == _BUSY:
            raise ProtocolViolation(f"frame 0x{frame.type:x} while {self._state}")
        return False

    def on_frame(self, frame):
        """For the main thread. Raises ProtocolViolation, and SystemExit when user code does."""
        if self.answer_ping(frame):
            return
        if frame.type == INVOKE and self._state == _IDLE:
            self._state = _BUSY
            self._invoke(_checked(frame.meta, _INVOKE_FIELDS), frame.body)
        elif frame.type == INIT and self._state == _BLANK:
            self._state = _BUSY
            init = _checked(frame.meta, _INIT_FIELDS)
            if init["concurrency"] != 1:
                raise ProtocolViolation("INIT with a concurrency other than 1: Python runs one invocation at a time")
            if init["realm"] not in ("", "vm"):
                raise ProtocolViolation(f'INIT with the realm {dumps(init["realm"])}')
            self._initialise(init)
        elif frame.type == COMPILE and self._state == _BLANK:
            self._state = _BUSY
            self._compile()
        else:
            raise ProtocolViolation(f"frame 0x{frame.type:x} while {self._state}")

    def _initialise(self, init):
        self._init = init
        try:
            set_environment(init, self._task_root)
            self._preload.give_way(own_folders(self._task_root))
            use_code_cache(self._code_cache, self._task_root)
            if init["realm"] == "vm":
                self._call = Job.load(self._task_root)
            else:
                self._call = HandlerCall(load_handler(init["handler"], self._task_root))
        except SystemExit:
            raise
        except BaseException as raised:
            self._logs.flush()
            self._state = _FAILED
            self._channel.send(INIT_ERROR, f"{{{error_members(raised)}{_location_member(raised)}}}")
        else:
            self._logs.flush()
            self._state = _IDLE
            self._channel.send(READY, "{}")

    def _compile(self):
        self._preload.give_way(())
        # Of dubious code; nobody reads them here.
        simplefilter("ignore")
        for path, compiled in compile_tree(self._task_root):
            self._channel.send(COMPILED, f'{{"path":{quote(path)}}}', compiled)
        self._state = _COMPILED
        self._channel.send(COMPILED, '{"done":true}')

    def _invoke(self, invoke, body):
        invocation_id = quote(invoke["id"])
        self._logs.begin(invoke["id"])
        set_trace_id(invoke["traceId"])
        try:
            value = self._call(_event(body), Context(self._init, invoke))
            if invoke.get("http") is True:
                http, result = http_response(value)
                meta = f'{{"id":{invocation_id},"http":{dumps(http, separators=(",", ":"))}}}'
            else:
                result = marshal(value)
                meta = f'{{"id":{invocation_id}}}'
            check_size(result)
            type_ = RESPONSE
        except SystemExit:
            raise
        except BaseException as raised:
            type_, meta, result = ERROR, f'{{"id":{invocation_id},{error_members(raised)}}}', b""
        self._logs.end()
        self._state = _IDLE
        self._channel.send(type_, meta, result)


def _event(body):
    if not body:
        return {}
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Fault("Runtime.InvalidEvent", "The event is not JSON: its bytes are not UTF-8.") from None
    try:
        return loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise Fault("Runtime.InvalidEvent", "The event is nested too deeply.") from None
    except ValueError as raised:
        raise Fault("Runtime.InvalidEvent", f"The event is not JSON: {raised}") from None


def _no_constant(name):
    """Python would read NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{name} is not JSON")


def _location_member(raised):
    location = raised.location if isinstance(raised, Fault) else None
    return "" if location is None else f',"location":{dumps(location, separators=(",", ":"))}'


def _checked(meta, fields):
    for name, types in fields.items():
        if not isinstance(meta.get(name), types):
            raise ProtocolViolation(f'a frame whose "{name}" is missing or of the wrong type')
    return meta
