"""``slips``: the contrasting embedded task, in which errors are random slips of a weak model.

Definitions are shuffled, so a solver first plans backward from the query and then computes forward. A single careful
author wrote the corpus. It contains occasional wrong values, each retracted with ``wait`` and masked in the loss.
Errors come from the model's own faulty look-up, which the model cannot detect. A prefix therefore contains little
information about the outcome of its path, in contrast to ``hands``.
"""

from __future__ import annotations

import random

from tasks.embedded.arithmetic import MODULUS, Definition, Shape, reduce, step_words
from tasks.embedded.base import EmbeddedTask, Example


def needed(definitions: list[Definition], query: str) -> list[Definition]:
    """The definitions that the query depends on, starting with the query, each after everything that uses it."""
    by_name = {d.name: d for d in definitions}
    wanted = {query}
    plan = []
    for d in reversed(definitions):
        if d.name in wanted:
            plan.append(by_name[d.name])
            wanted |= {o for o in d.operands if isinstance(o, str)}
    return plan


class Slips(EmbeddedTask):
    """5 to 7 shuffled definitions without re-assignment. The model was trained on up to 9."""

    name = "slips"
    version = "1"
    shape = Shape(definitions=(5, 7))
    trained = Shape(definitions=(7, 9))
    short = Shape(definitions=(3, 6))
    prefixes = (17, 34)  # 17 % and 33 % of the mean length on calibration (dev) problems, 102 tokens
    distinct = True
    slip = 0.06

    def order(self, rng: random.Random, definitions: list[Definition]) -> list[Definition]:
        """Definitions in the order in which the problem states them."""
        return rng.sample(definitions, len(definitions))

    def example(self, rng: random.Random, definitions: list[Definition], query: str) -> Example:
        """A problem with one worked solution, for training."""
        plan = needed(definitions, query)
        words = ["plan", *(d.name for d in plan), "."]
        trained = [True] * len(words)
        values: dict[str, int] = {}
        for d in reversed(plan):
            states = reduce(d, values)
            truth = states[-1][0][0]
            if d.ops and rng.random() < self.slip:
                wrong = (truth + rng.randrange(1, MODULUS)) % MODULUS
                slip = step_words(d, values, [*states[:-1], ([wrong], [])])
                words += slip
                # The loss is masked from the wrong value to its restatement, so the model never learns the slip.
                trained += [i < len(slip) - 5 or i == len(slip) - 1 for i in range(len(slip))]
                words.append("wait")
                trained.append(True)
            step = step_words(d, values, states)
            words += step
            trained += [True] * len(step)
            values[d.name] = truth
        words += ["answer", str(values[query])]
        return Example(words, [*trained, True, True])
