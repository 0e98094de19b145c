"""Prompts. Questions and texts go to the terminal or standard error, never to standard output: that is for results.

Answers come from the terminal; where standard input is something else (a script), they come from there, a line each.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence

from ..errors import AbortedError
from .plain import lines


class Terminal:
    """The conversation of `pam-mfa` with its user; see client.Conversation."""

    def ask(self, text: str) -> str:
        """Ask, and let the answer be seen. Raises AbortedError on Ctrl-C and at the end of input."""
        print(_prompt(text), end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            print(file=sys.stderr)
            raise AbortedError from None
        if not line or not self.interactive():
            print(file=sys.stderr)  # nobody typed the line end that belongs behind the prompt
        if not line:
            raise AbortedError
        return line.removesuffix("\n")

    def ask_secret(self, text: str) -> str:
        """Ask, and hide the answer. Raises AbortedError on Ctrl-C and at the end of input."""
        if not self.interactive():
            return self.ask(text)
        while True:
            try:
                return getpass.getpass(_prompt(text))
            except (KeyboardInterrupt, EOFError):
                print(file=sys.stderr)
                raise AbortedError from None
            except UnicodeDecodeError:
                self.warn("That is not text in this terminal's encoding.")

    def tell(self, text: str) -> None:
        """Show text."""
        print(lines(text), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Show text that is a warning."""
        print(lines(text), file=sys.stderr, flush=True)

    def choose(self, question: str, options: Sequence[tuple[str, str]]) -> str:
        """Let the user pick one of (name, what it is), by number or name. Raises AbortedError."""
        self.tell("\n".join([question, *(f"  {n}) {name:10} {what}" for n, (name, what) in enumerate(options, 1))]))
        names = {name: name for name, _ in options} | {str(n): name for n, (name, _) in enumerate(options, 1)}
        while (answer := self.ask("Number [1]:").strip().lower() or "1") not in names:
            self.warn(f"Type a number from 1 to {len(options)}.")
        return names[answer]

    def interactive(self) -> bool:
        """Whether somebody sits at standard input."""
        return sys.stdin.isatty()


def _prompt(text: str) -> str:
    return lines(text).rstrip() + " "
