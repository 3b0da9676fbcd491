"""
A fuzz target for `ResponseReader`, guided by what it reaches. Not a test: it runs by hand, and
until it is told to stop::

    python -m venv fuzzing
    fuzzing/bin/pip install atheris h11 .
    nice fuzzing/bin/python tests/fuzz/wire.py -max_total_time=1800 -print_final_stats=1

What it looks for is in `messages.check`. The options are libFuzzer's: ``-help=1`` names them all.
What it finds is written to a file ``crash-...``, which as an argument is run alone. It needs no
corpus, since some of its inputs are responses made for it; a directory as an argument keeps those
that reached something new.
"""

from __future__ import annotations

import pathlib
import random
import sys

import atheris

_HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE.parent), str(_HERE.parent.parent)]

with atheris.instrument_imports(include=["http3_parallel.dispatch.http11"]):
    import http3_parallel.dispatch.http11  # noqa: F401  # which messages reads with

import messages  # noqa: E402  # after what is to be instrumented

#: Of each input, before the response itself: the method, and what makes the cuts.
_PREFIX = 3


def one_input(data: bytes) -> None:
    method = messages.METHODS[data[0] % len(messages.METHODS)] if data else "GET"
    rng = random.Random(data[1:_PREFIX])
    stream = data[_PREFIX:]
    messages.check(stream, method, [messages.random_cut(rng, len(stream)) for _ in range(2)])


def made(rng: random.Random) -> bytes:
    number = rng.randrange(len(messages.METHODS))
    stream = messages.nearly_valid(rng, messages.METHODS[number])
    return bytes([number]) + rng.randbytes(_PREFIX - 1) + stream


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """As libFuzzer does, or by what is known of messages, or another one."""
    rng = random.Random(seed)
    kind = rng.randrange(20)
    if kind == 0 or len(data) < _PREFIX:
        data = made(rng)
    elif kind < 8:
        stream = data[_PREFIX:]
        for _ in range(rng.choice((1, 1, 2, 4))):
            stream = messages.mutated(rng, stream)
        data = data[:_PREFIX] + stream
    else:
        return bytes(atheris.Mutate(data, max_size))
    return data[:max_size]


def main() -> None:
    arguments = [sys.argv[0], "-max_len=1500", *sys.argv[1:]]
    atheris.Setup(arguments, one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
