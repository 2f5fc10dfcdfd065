#!/usr/bin/env python3
"""Drives the pull API by ctypes against a Rust main (`cargo run --example listen`), without a callback.

pull.py LIBRARY NAME
"""

import ctypes as c
import json
import select
import sys

SECOND = 1_000_000_000
TERMINATED = c.c_size_t(-1).value
MSGPACK, JSON = 0, 1
MESSAGE, REPLY, GONE = 1, 4, 6
WATCH_GONE = 2


class Info(c.Structure):
    """ringmain_event_info"""

    _fields_ = [
        ("struct_size", c.c_size_t),
        ("event_type", c.c_uint32),
        ("renderer", c.c_uint32),
        ("renderer_frame", c.c_uint32),
        ("frame", c.c_uint32),
        ("result", c.c_int32),
        ("gone", c.c_uint32),
        ("status", c.c_int32),
        ("reserved", c.c_uint32),
        ("registration", c.c_uint64),
        ("call", c.c_uint64),
        ("channel", c.c_void_p),
        ("channel_len", c.c_size_t),
        ("payload", c.c_void_p),
        ("payload_len", c.c_size_t),
    ]


class Failure(Exception):
    pass


class Renderer:
    def __init__(self, library, name):
        self.lib = c.CDLL(library)
        self.lib.ringmain_renderer_free.argtypes = [c.c_void_p]
        self.lib.ringmain_event_free.argtypes = [c.c_void_p]
        self.lib.ringmain_error_free.argtypes = [c.c_void_p]
        self.lib.ringmain_error_message.argtypes = [c.c_void_p, c.c_char_p, c.c_size_t]
        self.lib.ringmain_event_error.argtypes = [c.c_void_p]
        self.lib.ringmain_event_error.restype = c.c_void_p
        self.lib.ringmain_version.restype = c.c_char_p
        self.handle = c.c_void_p()
        self.call("connect_to", None, name.encode(), c.c_size_t(TERMINATED), c.byref(self.handle))
        fd = c.c_int()
        self.call("fd", self.handle, c.byref(fd))
        self.poller = select.poll()
        self.poller.register(fd.value, select.POLLIN)

    def call(self, function, *arguments):
        error = c.c_void_p()
        result = getattr(self.lib, "ringmain_renderer_" + function)(*arguments, c.byref(error))
        if result != 0:
            text = self.text_of(error)
            self.lib.ringmain_error_free(error)
            raise Failure(result, text)
        assert not error.value, "an error without a failure"

    def text_of(self, error):
        size = self.lib.ringmain_error_message(error, None, 0) + 1
        buffer = c.create_string_buffer(size)
        self.lib.ringmain_error_message(error, buffer, size)
        return buffer.value.decode()

    def listen(self, channel):
        number = c.c_uint64()
        name = channel.encode()
        self.call("on", self.handle, name, c.c_size_t(len(name)), 0, None, None, None, c.byref(number))
        return number.value

    def send(self, channel, *arguments):
        name, data = channel.encode(), json.dumps(arguments).encode()
        self.call("send", self.handle, name, c.c_size_t(len(name)), JSON, data, c.c_size_t(len(data)))

    def invoke(self, channel, *arguments):
        """The number of a call, whose answer is an event."""
        name, data, number = channel.encode(), json.dumps(arguments).encode(), c.c_uint64()
        timeout = c.c_uint64(10 * SECOND)
        self.call(
            "invoke_async", self.handle, name, c.c_size_t(len(name)), JSON, data, c.c_size_t(len(data)),
            timeout, None, None, c.byref(number),
        )  # fmt: skip
        return number.value

    def events(self):
        """Type, info, value and error of each event that is there."""
        while True:
            event = c.c_void_p()
            self.call("next_event", self.handle, c.byref(event))
            if not event.value:
                return
            info = Info(struct_size=c.sizeof(Info))
            text, length = c.c_void_p(), c.c_size_t()
            assert self.lib.ringmain_event_get(event, c.byref(info), None) == 0
            assert self.lib.ringmain_event_json(event, c.byref(text), c.byref(length), None) == 0
            value = json.loads(c.string_at(text, length.value))
            error = self.lib.ringmain_event_error(event)
            yield info, value, self.text_of(error) if error else None
            self.lib.ringmain_event_free(event)

    def wait_for(self, wanted):
        """Sleeps on the descriptor until as many events have come."""
        seen = []
        while len(seen) < wanted:
            if not self.poller.poll(20_000):
                raise Failure(None, f"{len(seen)} of {wanted} events within 20 s")
            seen.extend(self.events())
        return seen

    def free(self):
        self.lib.ringmain_renderer_free(self.handle)


def main():
    library, name = sys.argv[1:]
    renderer = Renderer(library, name)
    answer = renderer.listen("answer")
    calls = {renderer.invoke("add", number, 1): number + 1 for number in range(100)}
    too_large = renderer.invoke("add", 2**63 - 1, 1)
    renderer.send("message", "hello from Python, ü")

    answers = 0
    for info, value, error in renderer.wait_for(len(calls) + 2):
        if info.event_type == MESSAGE:
            assert info.registration == answer and value == ["main has read 20 characters"], value
            answers += 1
        elif info.call == too_large:
            assert info.event_type == REPLY and info.result == 31 and "does not fit" in error, error
        else:
            assert info.event_type == REPLY and info.result == 0 and value == calls.pop(info.call), value
    assert not calls and answers == 1
    assert not list(renderer.events()), "more events than were to come"

    try:
        renderer.send("x" * 70_000)
        raise AssertionError("a channel name of 70 000 bytes was taken")
    except Failure as failure:
        assert failure.args[0] == 11, failure
    renderer.free()
    print(f"ringmain {renderer.lib.ringmain_version().decode()}: 102 events pulled from Python")


main()
