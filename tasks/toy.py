"""``toy``: ten-way guessing for the toy engine, the task of most tests."""

from __future__ import annotations

from harness.api import Problem, Sampling, Task, TaskDefaults
from harness.rng import derive


class Toy(Task):
    """Problems for the seeded toy engine, with a digit as answer; they run in microseconds."""

    name = "toy"
    version = "2"
    defaults = TaskDefaults(
        model="toy", sampling=Sampling(), max_tokens=48, problems=40, prefixes=(5, 8), closing="answer"
    )

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        last = start + (self.defaults.problems if n is None else n)
        return [
            Problem(f"toy-{split}-{i:05d}", f"guess {split} {i}", str(derive("toy", f"guess {split} {i}") % 10))
            for i in range(start, last)
        ]

    def answer(self, text: str) -> str | None:
        words = text.split()
        return words[-1] if len(words) > 1 and words[-2] == "answer" else None

    def correct(self, answer: str | None, problem: Problem) -> bool:
        return answer == problem.answer
