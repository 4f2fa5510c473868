"""Answers that are kept for a while, each asked for by one caller at a time.

Not here: whom to ask.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """The newest `most` answers, each for `seconds` from when it was asked for; safe between threads."""

    def __init__(
        self, seconds: float, most: int, turn: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        """Whoever asks or waits is within a turn(), which may raise instead."""
        self._seconds = seconds
        self._most = most
        self._turn = turn
        self._lock = threading.Lock()
        self._answers: OrderedDict[Hashable, tuple[float, Future[T]]] = OrderedDict()

    def get(self, question: Hashable, ask: Callable[[], T]) -> T:
        """Return the answer that is known, or what `ask` returns; whoever comes meanwhile waits for it too.

        Raises what `ask` raises, to all who wait; that is not remembered.
        """
        with self._lock:
            answer = self._known(question)
        if answer is not None and answer.done():
            return answer.result()
        with self._turn():
            with self._lock:
                answer = self._known(question)
                if asking := answer is None:
                    answer = self._begin(question)
            if asking:
                self._finish(question, answer, ask)
            return answer.result()

    def _known(self, question: Hashable) -> Future[T] | None:
        asked, answer = self._answers.get(question, (0.0, None))
        return answer if time.monotonic() - asked < self._seconds else None

    def _begin(self, question: Hashable) -> Future[T]:
        answer: Future[T] = Future()
        self._answers[question] = (time.monotonic(), answer)
        self._answers.move_to_end(question)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)
        return answer

    def _finish(self, question: Hashable, answer: Future[T], ask: Callable[[], T]) -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            with self._lock:
                if self._answers.get(question, (0.0, None))[1] is answer:
                    del self._answers[question]
            answer.set_exception(error)
