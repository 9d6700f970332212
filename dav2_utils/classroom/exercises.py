"""`check(exercise, answer)`: one short look at an answer, and one of four replies: not attempted, wrong, error, right.

An exercise is a row in `EXERCISES`, and its judge knows the wrong answers that people really give: it returns nothing
for a right answer, otherwise a nudge, which says what was seen and where to look, never the answer. In a lesson, an
exercise is a card, a stub that ends with `check("03-anchored", strip)`, two folded hints, and the folded solution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from ..encoders import table_for
from ..errors import CheckpointError
from .setup import record

_SIGNS = {"not attempted": "○", "wrong": "✗", "error": "!", "right": "✓"}


@dataclass(frozen=True)
class Reply:
    """What `check` answers. `state`: `not attempted`, `wrong`, `error` or `right`."""

    state: str
    text: str

    def __str__(self) -> str:
        return f"{_SIGNS[self.state]} {self.state.capitalize()}. {self.text}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<p><b>{_SIGNS[self.state]} {self.state.capitalize()}.</b> {escape(self.text)}</p>"


@dataclass(frozen=True)
class Exercise:
    judge: Callable[[Any], str | None]
    praise: str = "That is it."


def check(exercise: str, answer: Any) -> Reply:
    """Look at an `answer`: a value or a function, whatever the card asks for; three dots mean not attempted.

    Raises `CheckpointError` (kind `usage`) when there is no exercise of that name. An answer that raises gets a reply.
    """
    if exercise not in EXERCISES:
        raise CheckpointError(f"There is no exercise {exercise!r}", f"one of {', '.join(EXERCISES)}", kind="usage")
    if answer is None or answer is ...:
        return Reply("not attempted", "Put your answer in place of the three dots and run the cell again.")
    try:
        nudge = EXERCISES[exercise].judge(answer)
    except _NotAttempted:
        return Reply(
            "not attempted", "The function gives nothing back yet. Put your answer in place of the three dots."
        )
    except Exception as error:  # a learner's function may raise anything
        return Reply("error", f"Your answer raised {type(error).__name__}: {error}. Try it by hand on one name first.")
    record(exercise, solved=not nudge)
    return Reply("wrong", nudge) if nudge else Reply("right", EXERCISES[exercise].praise)


class _NotAttempted(Exception):
    pass


def _equals(right: Any, nudges: dict[Any, str], otherwise: str) -> Callable[[Any], str | None]:
    """A judge for one value; `nudges` for the wrong ones that people give."""

    def judge(answer: Any) -> str | None:
        answer = answer.strip() if isinstance(answer, str) else tuple(answer) if isinstance(answer, list) else answer
        return None if answer == right else f"I see {answer!r}. " + next(
            (nudge for wrong, nudge in nudges.items() if wrong == answer), otherwise
        )  # fmt: skip

    return judge


def _near(right: float, nudges: dict[float, str], otherwise: str) -> Callable[[Any], str | None]:
    def judge(answer: Any) -> str | None:
        for wrong, nudge in nudges.items():
            if abs(float(answer) - wrong) < 1e-6:
                return f"I see {answer}. {nudge}"
        return None if abs(float(answer) - right) < 0.005 else f"I see {answer}. {otherwise}"

    return judge


def _maps(cases: dict[str, tuple[str, str]]) -> Callable[[Any], str | None]:
    """A judge for a function from name to name: each case is a name, the right result, and a nudge."""

    def judge(function: Any) -> str | None:
        if not callable(function):
            return f"I see a {type(function).__name__}. Hand over the function itself, without calling it."
        for name, (right, nudge) in cases.items():
            result = function(name)
            if result is None or result is ...:
                raise _NotAttempted
            if result != right:
                return f"{name!r} became {result!r}. {nudge}"
        return None

    return judge


def _subtract(answer: Any) -> str | None:
    asked = f"I see {answer!r}. Two sets are asked for, in this order: ({{missing}}, {{unexpected}})."
    if not isinstance(answer, tuple | list):  # a set has no first and no second
        return asked
    try:
        missing, unexpected = (frozenset([part] if isinstance(part, str) else part) for part in answer)
    except (TypeError, ValueError):
        return asked
    if (set(missing), set(unexpected)) == ({"step"}, {"scale"}):
        return "Both names are right, but the other way round: missing is always said from the model's side."
    if (set(missing), set(unexpected)) == ({"scale"}, {"step"}):
        return None
    return f"I see missing {sorted(missing)} and unexpected {sorted(unexpected)}. A name that both have is neither."


_NAMES = len(table_for("tiny"))
_FRONT = {
    "module.fc.weight": ("fc.weight", "The step at the front should go."),
    "fc.weight": ("fc.weight", "There was nothing to take off: a name without the step stays as it is."),
    "encoder.module.0.weight": ("encoder.module.0.weight", "Only the front: this `module` is inside the model."),
    "se_module.fc1.weight": (
        "se_module.fc1.weight",
        "A step is a whole word between dots, and `se_module` is another.",
    ),
    "modules.0.weight": ("modules.0.weight", "`modules` is another word. What comes after the e in `module.`?"),
    "mode.weight": ("mode.weight", "`lstrip` takes single letters off, not a word."),
}
_COATS = {
    "module.module.fc.weight": ("fc.weight", "The step can stand there more than once."),
    "_orig_mod.module.fc.weight": ("fc.weight", "Either of the two words may come first."),
    "module._orig_mod.fc.weight": ("fc.weight", "Either of the two words may come first."),
    "module.encoder.module.0.weight": ("encoder.module.0.weight", "Stop at the first step that is no wrapper's word."),
}

EXERCISES: dict[str, Exercise] = {
    "00-names": Exercise(
        _equals(3, {2: "Count again: one of them has no dot in its name.", 6: "Only the left sides are names."},
                "How many entries does the dictionary have?"),
        "That is how every exercise works.",
    ),
    "01-wrapped-twice": Exercise(
        _equals("module.module.pretrained.cls_token", {
            "module.pretrained.cls_token": "That is one wrapper. The colleague put on a second one.",
            "pretrained.cls_token": "That is the bare model, without any wrapper.",
        }, "The name is the path from the outermost wrapper down to the tensor."),
        "Two wrappers, two steps.",
    ),
    "01-reverse": Exercise(
        _equals((_NAMES, _NAMES), {
            (0, 0): "Would that raise an error? Compare one name of each side.",
            (_NAMES, 0): "The names that were given have to go somewhere, too.",
            (0, _NAMES): "What the model wanted, did it get?",
        }, "Each side counts in full when no name is the same. How many names does the model have?"),
        "Every name is missing, and every name is unexpected.",
    ),
    "02-subtract": Exercise(_subtract),
    "02-encoder": Exercise(
        _equals("vitb", {
            "vits": "vits has twelve blocks, too, but look at the width.",
            "vitl": "vitl has 24 blocks, so its last one is block 23.",
        }, "Which of the encoders has a width of 768?"),
    ),
    "02-order": Exercise(
        _equals(("ddp", "compile"), {
            ("compile", "ddp"): "The leftmost step belongs to the wrapper that was put on last.",
        }, 'Two words are asked for, as a list: "compile" and "ddp", first things first.'),
        "compile is the coat, so its step comes first in the name.",
    ),
    "03-letters": Exercise(
        _equals("reg_0.weight", {
            "reg_module.0.weight": "That is what one would wish for. `replace` cuts more often than once.",
            "0.weight": "`reg_` is not part of what is cut.",
            "reg_.0.weight": "The dot belongs to `module.`, and goes with it.",
        }, "Cross the seven characters out on paper, wherever they stand."),
        "A name that no model has.",
    ),
    "03-anchored": Exercise(
        _maps(_FRONT),
        "Front only, whole step only, and nothing else touched.",
    ),
    "03-coats": Exercise(
        _maps(_FRONT | _COATS),
        "That is the anchored strip, for any number of wrappers.",
    ),
    "04-nearer": Exercise(
        _equals(("cup", "lamp"), {
            ("lamp", "cup"): "Both the other way round. Which of the two grows with the distance?",
            ("cup", "cup"): "One of the two maps is in metres. Is 8 metres nearer than 4?",
            ("lamp", "lamp"): "Relative depth is inverse: what does a large value mean there?",
        }, 'A pair of words is asked for, "cup" or "lamp": (relative, metric).'),
    ),
    "04-factor": Exercise(
        _near(20.0, {1.25: "You divided where you should have multiplied.", 5.0: "The model only said so.",
                     80.0: "That is the end of the range, not the wall."},
              "Which number between 0 and 1 gives 5.0 after multiplying by 20?"),
    ),
    "04-absrel": Exercise(
        _near(0.3, {1.0: "Each error is divided by the true depth, then the mean is taken.",
                    0.6: "That is the sum. AbsRel is the mean.",
                    (1 / 3 + 1 / 9) / 2: "You divided by what the model said. The truth goes below."},
              "First pixel: 1 / 2."),
        "A metre off at two metres weighs more than a metre off at ten.",
    ),
    "05-inner": Exercise(
        _equals("wrapped.module.state_dict()", {
            "wrapped.state_dict()": "That is what made the prefix in the first place.",
            "model.module.state_dict()": "In this question the wrapper is called `wrapped`, and `model` is bare.",
            "wrapped.module": "That is the model. Its state dict is what is saved.",
        }, "Ask the inner model, and not its wrapper, for its state dict."),
    ),
    "05-trap": Exercise(
        _equals(0, {_NAMES: "Did any name in the file begin with `pretrained`?"},
                "Write down the first name in the file, and what the script looks for."),
        "Nothing at all, and nobody is told.",
    ),
    "05-facts": Exercise(
        _equals("max_depth", {
            "encoder": "The widths and the number of blocks tell the encoder.",
            "features": "The shapes of the head tell the features.",
        }, "Which of them is a plain number in the constructor, and no tensor?"),
    ),
    "06-mendable": Exercise(
        _equals("08", {
            "03": "That file is a note of 133 bytes. Where would the weights come from?",
            "05": "What did not arrive cannot be renamed.",
        }, 'One number as text is asked for: "03", "05" or "08".'),
        "All the weight is there, under longer names.",
    ),
    "06-cause": Exercise(
        _equals("other_naming", {
            "wrapper_prefix": "No wrapper splits one tensor into three.",
            "outer_module_prefix": "Leave `backbone` out: does the model have such a name?",
            "wrong_encoder": "The shapes are those of vits. What about the names?",
        }, "One of the four words is asked for."),
        "A conversion, not a rename.",
    ),
    "06-silent": Exercise(
        _equals("none", {
            "depth_head.scratch.output_conv2.2.weight": "Metric and relative models both have it, in the same shape.",
            "depth_head.scratch.output_conv2.2.bias": "Metric and relative models both have it, in the same shape.",
            "max_depth": "It is an argument of the constructor. Is there a tensor of that name?",
        }, "Do the last activation and the factor after it have weights?"),
        "Nothing in the file tells.",
    ),
}  # fmt: skip
