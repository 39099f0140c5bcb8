"""A port that leads to another one, and can be cut."""

import socket
import threading
import time
from contextlib import suppress


class Wire:
    """Forwards connections, until it refuses them or swallows what they say."""

    def __init__(self, to: int) -> None:
        self.to = to
        self._flows, self._ends, self._lock = threading.Event(), set(), threading.Lock()
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._accept()

    def refuse(self) -> None:
        """Ends all connections, and lets none begin."""
        with self._lock:
            listener, self._listener = self._listener, None
            ends, self._ends = self._ends, set()
        for end in [*ends, *([listener] if listener else [])]:
            # What waits for a socket in another thread is woken by its shutdown, not by its close.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if listener:
            listener.close()
        self._flows.set()

    def swallow(self) -> None:
        """Has nothing arrive any more, and nobody be told. What is on its way arrives late, when all is well again."""
        self._flows.clear()

    def mend(self) -> None:
        if self._listener is None:
            self._listener = self._listen()
            self._accept()
        self._flows.set()

    def _listen(self) -> socket.socket:
        deadline = time.monotonic() + 60
        while True:
            try:
                return socket.create_server(("127.0.0.1", self.port))
            except OSError:
                # It may have been somebody else's for a moment.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _accept(self) -> None:
        threading.Thread(target=self._accepting, args=(self._listener,), daemon=True).start()

    def _accepting(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=self._connect, args=(near, listener), daemon=True).start()

    def _connect(self, near: socket.socket, listener: socket.socket) -> None:
        self._flows.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self.to))
        except OSError:
            near.close()
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            cut = self._listener is not listener
            self._ends |= set() if cut else {near, far}
        if cut:
            near.close()
            far.close()
            return
        back = threading.Thread(target=self._forward, args=(far, near), daemon=True)
        back.start()
        self._forward(near, far)
        back.join()
        with self._lock:
            self._ends -= {near, far}
        near.close()
        far.close()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while said := source.recv(1 << 16):
                self._flows.wait()
                sink.sendall(said)
        self._flows.wait()
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
