"""Answers that are kept for a while, each asked for by one caller at a time.

Not here: whom to ask.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """The newest `most` answers, each for `seconds` from when it was asked for; safe between threads."""

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._lock = threading.Lock()
        self._answers: OrderedDict[Hashable, tuple[float, Future[T]]] = OrderedDict()

    def get(self, question: Hashable, ask: Callable[[], T]) -> T:
        """Return the answer that is known, or what `ask` returns; whoever comes meanwhile waits for it too.

        Raises what `ask` raises, to all who wait; that is not remembered.
        """
        now = time.monotonic()
        with self._lock:
            asked, answer = self._answers.get(question, (-self._seconds, Future()))
            known = now - asked < self._seconds
            if not known:
                answer = Future()
                self._keep(question, now, answer)
        if not known:
            self._answer(question, answer, ask)
        return answer.result()

    def _keep(self, question: Hashable, now: float, answer: Future[T]) -> None:
        self._answers[question] = (now, answer)
        self._answers.move_to_end(question)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)

    def _answer(self, question: Hashable, answer: Future[T], ask: Callable[[], T]) -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            with self._lock:
                if self._answers.get(question, (0, None))[1] is answer:
                    del self._answers[question]
            answer.set_exception(error)
