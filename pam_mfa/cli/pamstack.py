"""Runs an `auth` stack as libpam's dispatcher does, over everything its modules may answer. Pure.

A run follows sets of states, not single logins: a module that may answer in three ways makes three states of each one,
and equal states are merged. So every combination is covered, also in a long stack. With one answer for each module it
is the dispatcher itself, which tests/pam compares with the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from .pamfiles import BAD, DIE, DONE, IGNORE, OK, PERM_DENIED, RESET, SKIP, SUCCESS, Kind, Line

Answers = Callable[[Line], Iterable[int]]
"""The return values to follow for one module."""


@dataclass(frozen=True, slots=True)
class Impression:
    """What the stack amounts to so far: nothing yet (None), well or badly, and the code that says so."""

    good: bool | None = None
    status: int = PERM_DENIED


@dataclass(frozen=True, slots=True)
class State:
    """One way in which the run may stand.

    Args:
        at: index of the next line.
        now: the impression.
        saved: the impression at the entry of each substack that is open, outermost first.
        ran: how often a line that is watched was run.
        culprit: index of the line that passed over a watched one, by a jump or by ending the stack.
    """

    at: int = 0
    now: Impression = Impression()
    saved: tuple[Impression, ...] = (Impression(),)
    ran: int = 0
    culprit: int | None = None


@dataclass(frozen=True, slots=True)
class End:
    """One way in which a run may end: the code that the host program gets, and State's `ran` and `culprit`."""

    code: int
    ran: int
    culprit: int | None


def run(lines: tuple[Line, ...], answers: Answers, watched: Callable[[Line], bool] = lambda line: False) -> set[End]:
    """Every way in which the stack may end.

    Args:
        lines: of one type, as pamfiles gives them.
        answers: what each module may answer.
        watched: the lines whose being run or passed over is of interest.
    """
    stack = _Stack(lines, watched)
    waiting: list[set[State]] = [set() for _ in range(len(lines) + 1)]  # by the line that comes next
    waiting[0].add(State())
    for line, states in zip(lines, waiting, strict=False):
        for state in states:
            for answer in _answers(line, answers):
                after = stack.after(state, answer)
                waiting[after.at].add(after)
    return {_end(state) for state in waiting[-1]}


def _answers(line: Line, answers: Answers) -> Iterable[int]:
    if line.kind is Kind.MODULE:
        return answers(line)
    return (PERM_DENIED,)  # of a broken line; a substack's mark has no answer


def _end(state: State) -> End:
    code = state.now.status
    if code == SUCCESS and not state.now.good:
        code = PERM_DENIED
    return End(code, state.ran, state.culprit)


class _Stack:
    """The lines, and what one answer does."""

    def __init__(self, lines: tuple[Line, ...], watched: Callable[[Line], bool]) -> None:
        self.lines = lines
        self.watched = watched

    def after(self, state: State, answer: int) -> State:
        """The state behind the next line, which answered `answer`."""
        line = self.lines[state.at]
        state = replace(state, saved=self._saved(state, line.level))
        if line.kind is Kind.SUBSTACK:
            return replace(state, at=state.at + 1)
        state = replace(state, ran=state.ran + self.watched(line))
        action = line.actions[answer]
        if action > SKIP:
            return self._jump(state, line.level, action)
        now = _impression(state.now, state.saved[line.level], action, answer)
        if action == DIE or (action == DONE and now.good):
            return self._move(replace(state, now=now), self._leave(state.at, line.level))
        return replace(state, now=now, at=state.at + 1)

    def _saved(self, state: State, level: int) -> tuple[Impression, ...]:
        before = self.lines[state.at - 1].level if state.at else 0
        if level > before:
            return (*state.saved[:level], state.now)
        return state.saved

    def _jump(self, state: State, level: int, count: int) -> State:
        at = state.at
        while count and at + 1 < len(self.lines) and self.lines[at + 1].level >= level:
            at += 1
            while at + 1 < len(self.lines) and self.lines[at + 1].level > level:
                at += 1
            count -= 1
        if count:  # over the end: a syntax error to libpam
            state = replace(state, now=Impression(False, PERM_DENIED))
        return self._move(state, at + 1)

    def _leave(self, at: int, level: int) -> int:
        at += 1
        while at < len(self.lines) and self.lines[at].level >= level:
            at += 1
        return at

    def _move(self, state: State, to: int) -> State:
        passed = any(self.watched(line) for line in self.lines[state.at + 1 : to])
        culprit = state.at if passed and state.culprit is None else state.culprit
        return replace(state, at=to, culprit=culprit)


def _impression(now: Impression, saved: Impression, action: int, answer: int) -> Impression:
    if action == RESET:
        return saved
    if action in (OK, DONE) and (now.good is None or (now.good and now.status == SUCCESS)):
        return Impression(True, answer)
    if action in (BAD, DIE) and now.good is not False:
        return Impression(False, PERM_DENIED if answer == IGNORE else answer)
    return now
