"""Answers: a table of what models write, the gold answers at hand, and the laws of extraction and equality."""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from harness.api import PathpruneError
from tasks.answers import canonical, choice, equivalent, extract, spoken
from tests.answer_table import CHOICES, EQUIVALENCE

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SHAPES = {  # gold answers of the shapes of the two files, for where these are not at hand
    "aime_2024.json": ["204", "025", "809", "073", "104", "045", "080", "902", "7"],
    "brumo_2025.json": [
        *("2^{98}", r"\frac{1}{8}", r"\frac{\sqrt{11}}{2}", "240", "4529", r"5+2\sqrt{6}", r"1+\sqrt{5}", r"21\pi"),
        *(r"2,3,\frac{5+i\sqrt{3}}{2},\frac{5-i\sqrt{3}}{2}", r"\frac{1+\sqrt{29}}{2}", r"\frac{735}{38}"),
        *(r"7\sqrt{2}", r"-\frac{2433}{50}", r"\frac{9\sqrt{26}}{4}"),
    ],
}
NASTY = [
    *("9^{9^{9^{9}}}", "9^9^9^9", "((((9!)!)!)!)!", "10^{10^{10}}!", r"\binom{10^{9}}{10^{8}}", "1e999999999"),
    *("9" * 5000, "9" * 4400 + "/7", "0." + "3" * 5000, "2^{" * 500 + "2" + "}" * 500, "(" * 4000 + "1" + ")" * 4000),
    *("(" * 5000, r"\{" * 3000, r"\sqrt{" * 60 + "2" + "}" * 60, r"\frac{1}{" * 80 + "2" + "}" * 80, "1," * 4000),
    *("(x+1)^{100000}", "(x+y+z+w)^{999}", r"\sum_{k=1}^{10^{12}} k^{k}", r"\int_0^1 x^x dx", r"\tan^{99999}(99999)"),
    *(
        r"\frac{1}{0}",
        r"\frac{0}{0}",
        "0^0",
        r"\sqrt",
        r"\frac",
        "^",
        "_",
        "{",
        "}",
        "\\",
        "=",
        "=5",
        "5=",
        "<",
        ",",
        "",
    ),
    *("\x00", "\ud800", "\u202e5", "٣", "²", "x" * 5000, r"\boxed{" * 300, "a=" * 900, r"\pm" * 99, "NaN", "-inf"),
    *(r"\log_0 0", r"\ln 0", r"\infty-\infty", "i^i^i^i", "e^{e^{e^{e^{9}}}}", r"\lfloor 10^{400}\pi \rfloor", "!!!!"),
]


def golds(name: str) -> list[str]:
    """The gold answers of a data file, or answers of the same shapes where the file is not at hand."""
    file = DATA / name
    return [row["answer"] for row in json.loads(file.read_text())] if file.exists() else SHAPES[name]


@pytest.mark.parametrize(("text", "gold", "right"), EQUIVALENCE)
def test_graded_as_by_a_careful_reader(text: str, gold: str, right: bool) -> None:
    answer = extract(text)
    assert (answer is not None and equivalent(gold, answer)) == right, answer


@pytest.mark.parametrize(("text", "letter", "right"), CHOICES)
def test_chosen_letter(text: str, letter: str, right: bool) -> None:
    assert (choice(text) == letter) == right


GOLDS_WITH_UNITS = (r"5\text{ m}", r"1.5\,\mathrm{g}")  # a vote does not say in which unit


@pytest.mark.parametrize(("text", "gold", "right"), EQUIVALENCE)
def test_a_vote_is_graded_as_what_it_stands_for(text: str, gold: str, right: bool) -> None:
    answer = extract(text)
    if answer is not None and gold not in GOLDS_WITH_UNITS:
        assert equivalent(gold, canonical(answer)) == equivalent(canonical(answer), gold) == right, canonical(answer)


HEAVY = {
    "digits": "7" * 100_000,
    "digits in a box": f"\\boxed{{{'3' * 100_000}}}",
    "tower": r"\boxed{9^{9^{9^9}}}",
    "factorials": r"\boxed{((((9!)!)!)!)!}",
    "braces": "\\boxed{" + "{" * 5000,
    "closed braces": "\\boxed{" + "{" * 5000 + "7" + "}" * 5001,
    "power of a sum": r"\boxed{(x+y+z+w)^{999}}",
    "rounded": r"\boxed{\lfloor 10^{400}\pi \rfloor}",
    "many roots": "\\boxed{" + "+".join(rf"\sqrt{{{n}}}" for n in range(2, 40)) + "}",
    "a long list": "\\boxed{" + ", ".join(rf"\sqrt{{{n}}}" for n in range(2, 80)) + "}",
    "units": "\\boxed{7" + " cm" * 300 + "!}",
    "quotes": "\\boxed{" + "'" * 900 + "7}",
    "words": "The answer is " + "is " * 20_000,
    "tags": "<answer>" * 20_000,
    "marks": "Answer: " * 20_000,
}


@pytest.mark.parametrize("name", HEAVY)
def test_an_answer_is_read_and_compared_within_two_seconds_or_is_none(name: str) -> None:
    canonical(r"\sqrt{2}+1")  # sympy is loaded
    began = time.process_time()
    answer = extract(HEAVY[name])
    if answer is not None:
        assert not equivalent(r"\frac{\sqrt{13}}{2}", canonical(answer))
    assert time.process_time() - began < 2


def test_a_timer_of_others_goes_on() -> None:
    """A pruner may read answers under the harness' own time limit."""
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        canonical(r"\sqrt{7919}+\sqrt{7901}")
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60 and not rung
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{}",
        "\\boxed{ }",
        r"\boxed{\,}",
        r"\boxed{\text{}}",
        "The answer is **.**",
        "Answer:\n\n",
        "<answer> </answer>",
    ],
)
def test_an_answer_is_never_empty(text: str) -> None:
    assert extract(text) is None


def test_choices_beyond_d_need_their_letters() -> None:
    assert choice(r"\boxed{E}") is None and choice(r"\boxed{E}", "ABCDE") == "E"


def rewritings(gold: str) -> list[str]:
    """A gold answer as models write it: in a box, a sentence or a JSON field, in other spacing and other commands."""
    spaced = gold.replace(",", " , ").replace("+", " + ")
    return [
        rf"Thus \[\boxed{{{gold}}}\]",
        f"The answer is ${gold}$.",
        rf"$$\boxed{{{gold.replace('frac', 'dfrac')}}}$$",
        rf"\boxed{{ {spaced} }}.",
        rf"\boxed{{S = {gold}}}",
        json.dumps({"answer": f"${gold}$"}),
    ]


@pytest.mark.parametrize("name", SHAPES)
def test_gold_answers_parse_and_equal_themselves_alone(name: str) -> None:
    answers = golds(name)
    for gold in answers:
        form = canonical(gold)
        assert form != gold or gold.isdigit() or "sqrt" in gold or "pi" in gold, f"{gold} was not read"
        for text in rewritings(gold):
            answer = extract(text)
            assert answer is not None and canonical(answer) == form and equivalent(gold, answer), text
    for gold, neighbour in itertools.permutations({canonical(a): a for a in answers}.values(), 2):
        assert not equivalent(gold, neighbour), (gold, neighbour)


@pytest.mark.parametrize("name", SHAPES)
def test_gold_answers_differ_from_near_misses(name: str) -> None:
    for gold in golds(name):
        for miss in (f"-({gold})", f"{gold}+1", f"({gold})0", f"10 + {gold}", f"2({gold})"):
            assert "," in gold or not equivalent(gold, miss), (gold, miss)


# What canonical prints for irrational numbers is a choice; that it was read shows in two spellings meeting.
@pytest.mark.parametrize(
    "spellings",
    [
        (r"\frac12", "0.5", "1/2", r"\dfrac{1}{2}", "2/4", ".50", "$1/2$", r"\text{1/2}"),
        ("2^{99}", "2**99", str(2**99), f"{2**99:,}", r"4^{49} \cdot 2"),
        (r"3+2\sqrt{2}", r"2\sqrt2+3", r"(1+\sqrt{2})^2", r"3+\sqrt{8}"),
        (r"\frac{9\sqrt{30}}{4}", r"\frac94\sqrt{30}", r"2.25\sqrt{30}"),
        (r"\pm 2", r"\{-2, 2\}", "2,-2", "x=2 or x=-2"),
        (r"\frac{3\pm i\sqrt{3}}{2}", r"\frac{3-i\sqrt3}{2},\frac{3+i\sqrt3}{2}"),
    ],
)
def test_spellings_are_one_vote(spellings: tuple[str, ...]) -> None:
    assert len({canonical(s) for s in spellings}) == 1


FORMULA = st.recursive(
    st.sampled_from(
        ["0", "1", "2", "12", "0.5", "1,000", "x", "y", "A", "i", "e", r"\pi", "Yes", "no", r"50\%", "3 cm"]
    ),
    lambda part: st.one_of(
        st.builds(r"\frac{{{}}}{{{}}}".format, part, part),
        st.builds(r"\sqrt{{{}}}".format, part),
        st.builds("{}^{{{}}}".format, part, st.integers(-3, 9)),
        st.builds("{}{}{}".format, part, st.sampled_from("+-*/=,; "), part),
        st.builds("{1}{0}{2}".format, part, *(st.sampled_from(s) for s in (("(", "[", r"\{"), (")", "]", r"\}")))),
        st.builds(r"\text{{{}}}".format, part),
        st.builds(r"{} \pm {}".format, part, part),
        st.builds("-{}".format, part),
    ),
    max_leaves=5,
)
ANY = st.one_of(FORMULA, st.text(max_size=40), st.text(r"01234.,/-+^_{}()[]\$%=! xiefracsqt", max_size=20))


@given(ANY)
@settings(max_examples=200, deadline=None)
def test_canonical_is_its_own_canonical_form(answer: str) -> None:
    form = canonical(answer)
    assert canonical(form) == form
    assert equivalent(answer, answer) and equivalent(f" {answer} ", answer)


@given(FORMULA, FORMULA)
@settings(max_examples=100, deadline=None)
def test_one_vote_is_one_grade(first: str, second: str) -> None:
    if canonical(first) == canonical(second):
        assert equivalent(first, second) and equivalent(second, first)


@given(st.integers(-(10**6), 10**6), st.integers(1, 5000), st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_notations_of_a_rational_meet(top: int, bottom: int, scale: int) -> None:
    sign, size = "-" * (top < 0), abs(top)
    spellings = [
        rf"{sign}\frac{{{size}}}{{{bottom}}}",
        rf"\dfrac{{{top * scale}}}{{{bottom * scale}}}",
        f"{top}/{bottom}",
        f"${top} / {bottom}$",
        rf"x = \left(\frac{{{top}}}{{{bottom}}}\right)",
    ]
    if size > bottom and size % bottom:
        spellings.append(rf"{sign}{size // bottom} \frac{{{size % bottom}}}{{{bottom}}}")
    assert {canonical(s) for s in spellings} == {str(Fraction(top, bottom))}


@given(st.integers(-(10**9), 10**9), st.integers(0, 6))
@settings(max_examples=100, deadline=None)
def test_notations_of_a_decimal_meet(top: int, places: int) -> None:
    value = Fraction(top, 10**places)
    decimal = f"{'-' * (top < 0)}{abs(top) // 10**places}.{abs(top) % 10**places:0{places}d}"
    spellings = [decimal, f"{decimal}000", rf"{top} \times 10^{{-{places}}}", rf"\${decimal}", f"{top}e-{places}"]
    assert {canonical(s) for s in spellings} == {str(value)}


@given(st.integers(), st.integers(), st.sampled_from(["{}", "{:,}", r"{}^\circ", r"\${}", "{}.0", r"x={}", "{} cm"]))
@settings(deadline=None)
def test_different_integers_never_meet(first: int, second: int, form: str) -> None:
    assume(first != second)
    assert canonical(str(first)) != canonical(form.format(second))
    assert not equivalent(str(first), form.format(second))


MARKS = ["<think>", "</think>", r"\boxed{", "}", "{", "\\", "assistantfinal", "analysis", "The answer is ", "**", "$"]
MARKS += ["<|channel|>", "final", "<|message|>", "<|end|>", '"answer": ', '"', "[", "]", "\n", ". ", "(C)", "7", "null"]
TEXT = st.one_of(st.text(), st.lists(st.one_of(st.sampled_from(MARKS), st.text(max_size=3))).map("".join))


@given(TEXT)
@settings(max_examples=500)
@example("<think>" * 1000)
@example(r"\boxed{" * 2000 + "}" * 1000)
@example("answer: " * 2000)
def test_extraction_takes_any_text(text: str) -> None:
    answer = extract(text)
    assert answer is None or (answer.strip() and spoken(text) is not None)
    assert choice(text) in {None, *"ABCD"}


THOUGHTS = [
    "<think>Let me see. \\boxed{3}, so the answer is 3.",
    '<think>\n{"answer": "A"} The answer is A.',
    "<|channel|>analysis<|message|>Is it \\boxed{3}? The answer is 3.",
    'analysisIs it \\boxed{3}? "ANSWER": "B". The answer is 3.',
]


@given(st.sampled_from(THOUGHTS), TEXT, st.data())
def test_a_cut_thinking_block_has_no_answer(opening: str, thought: str, data: st.DataObject) -> None:
    assume(not any(mark in thought for mark in ("</think>", "final")))
    text = opening + thought
    start = len("analysis<|message|>") if opening[0] == "a" else opening.index(">") + 1
    cut = text[: data.draw(st.integers(start, len(text)))]
    assert spoken(cut) is None and extract(cut) is None and choice(cut) is None


@given(st.sampled_from(THOUGHTS), st.integers(-99, 99))
def test_what_follows_the_thinking_counts_alone(thought: str, value: int) -> None:
    close = "</think>" if "<think>" in thought else "assistantfinal"
    if "<|" in thought:
        close = "<|end|><|start|>assistant<|channel|>final<|message|>"
    assert extract(f"{thought}{close}I am unsure.") is None
    assert extract(f"{thought}{close}$\\boxed{{{value}}}$") == str(value)


@pytest.mark.parametrize("answer", NASTY, ids=lambda a: repr(a[:20]))
def test_nasty_answers_are_wrong_and_nothing_else(answer: str) -> None:
    assert canonical(canonical(answer)) == canonical(answer)
    assert not equivalent("7", answer) and not equivalent(r"\frac{\sqrt{13}}{2}", answer)


def test_formulas_off_the_main_thread_are_refused() -> None:
    """The time limit is a signal, which only the main thread gets; plain numbers need none."""
    raised: list[BaseException | str] = []

    def grade() -> None:
        raised.append(canonical("1/2"))
        try:
            canonical(r"\sqrt{7919}+\sqrt{7907}")
        except PathpruneError as error:
            raised.append(error)

    thread = threading.Thread(target=grade)
    thread.start()
    thread.join()
    assert raised[0] == "1/2" and "main thread" in str(raised[1])
