"""`check(exercise, answer)`: one short look at an answer, and one of four replies: not attempted, wrong, error, right.

An exercise is a row in `EXERCISES`, and its judge knows the wrong answers that people really give: it returns nothing
for a right answer, otherwise a nudge, which says what was seen and where to look, never the answer. In a lesson, an
exercise is a card, a stub that ends with `check("03-anchored", strip)`, two folded hints, and the folded solution.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from ..encoders import table_for
from ..errors import CheckpointError
from .judges import Judge, NotAttempted, equals, guesses, maps, near, subtract
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
    judge: Judge
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
    except NotAttempted as nothing:
        return Reply("not attempted", str(nothing))
    except Exception as error:  # a learner's function may raise anything
        return Reply("error", f"Your answer raised {type(error).__name__}: {error}. Try it by hand on one name first.")
    record(exercise, solved=not nudge)
    return Reply("wrong", nudge) if nudge else Reply("right", EXERCISES[exercise].praise)


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
        equals(3, {2: "Count again: one of them has no dot in its name.", 6: "Only the left sides are names."},
                "How many entries does the dictionary have?"),
        "That is how every exercise works.",
    ),
    "01-wrapped-twice": Exercise(
        equals("module.module.pretrained.cls_token", {
            "module.pretrained.cls_token": "That is one wrapper. The colleague put on a second one.",
            "pretrained.cls_token": "That is the bare model, without any wrapper.",
        }, "The name is the path from the outermost wrapper down to the tensor."),
        "Two wrappers, two steps.",
    ),
    "01-reverse": Exercise(
        equals((_NAMES, _NAMES), {
            (0, 0): "Would that raise an error? Compare one name of each side.",
            (_NAMES, 0): "The names that were given have to go somewhere, too.",
            (0, _NAMES): "What the model wanted, did it get?",
        }, "Each side counts in full when no name is the same. How many names does the model have?"),
        "Every name is missing, and every name is unexpected.",
    ),
    "02-subtract": Exercise(subtract),
    "02-encoder": Exercise(
        equals("vitb", {
            "vits": "vits has twelve blocks, too, but look at the width.",
            "vitl": "vitl has 24 blocks, so its last one is block 23.",
            "ViT-B": "You mean the right one. Write its short name, as the table above does.",
        }, "Which of the encoders has a width of 768?"),
    ),
    "02-order": Exercise(
        equals(("ddp", "compile"), {
            ("compile", "ddp"): "The leftmost step belongs to the wrapper that was put on last.",
        }, 'Two words are asked for, as a list: "compile" and "ddp", first things first.'),
        "compile is the coat, so its step comes first in the name.",
    ),
    "03-letters": Exercise(
        equals("reg_0.weight", {
            "reg_module.0.weight": "That is what one would wish for. `replace` cuts more often than once.",
            "0.weight": "`reg_` is not part of what is cut.",
            "reg_.0.weight": "The dot belongs to `module.`, and goes with it.",
        }, "Cross the seven characters out on paper, wherever they stand."),
        "A name that no model has.",
    ),
    "03-anchored": Exercise(
        maps(_FRONT),
        "Front only, whole step only, and nothing else touched.",
    ),
    "03-coats": Exercise(
        maps(_FRONT | _COATS),
        "That is the anchored strip, for any number of wrappers.",
    ),
    "04-nearer": Exercise(
        equals(("cup", "lamp"), {
            ("lamp", "cup"): "Both the other way round. Which of the two grows with the distance?",
            ("cup", "cup"): "One of the two maps is in metres. Is 8 metres nearer than 4?",
            ("lamp", "lamp"): "Relative depth is inverse: what does a large value mean there?",
        }, 'A pair of words is asked for, "cup" or "lamp": (relative, metric).'),
    ),
    "04-factor": Exercise(
        near(20.0, {1.25: "You divided where you should have multiplied.", 5.0: "The model only said so.",
                     80.0: "That is the end of the range, not the wall."},
              "Which number between 0 and 1 gives 5.0 after multiplying by 20?"),
    ),
    "04-absrel": Exercise(
        near(0.3, {1.0: "Each error is divided by the true depth, then the mean is taken.",
                    0.6: "That is the sum. AbsRel is the mean.",
                    (1 / 3 + 1 / 9) / 2: "You divided by what the model said. The truth goes below."},
              "First pixel: 1 / 2."),
        "A metre off at two metres weighs more than a metre off at ten.",
    ),
    "05-inner": Exercise(
        equals("wrapped.module.state_dict()", {
            "wrapped.state_dict()": "That is what made the prefix in the first place.",
            "model.module.state_dict()": "In this question the wrapper is called `wrapped`, and `model` is bare.",
            "wrapped.module": "That is the model. Its state dict is what is saved.",
            "wrapped.module.state_dict": "That is the method itself. Call it.",
        }, "Ask the inner model, and not its wrapper, for its state dict.", also=("clean_state_dict(wrapped)",)),
    ),
    "05-trap": Exercise(
        equals(0, {_NAMES: "Did any name in the file begin with `pretrained`?"},
                "Write down the first name in the file, and what the script looks for."),
        "Nothing at all, and nobody is told.",
    ),
    "05-facts": Exercise(
        equals("max_depth", {
            "encoder": "The widths and the number of blocks tell the encoder.",
            "features": "The shapes of the head tell the features.",
        }, "Which of them is a plain number in the constructor, and no tensor?"),
    ),
    "06-easy": Exercise(
        guesses({"01": "box", "02": "prefix", "03": "pointer", "04": "page", "05": "cut"}, {
            "01": "everything is missing, so nothing at the top of the file fits.",
            "02": "the weights alone were saved, so there is no box.",
            "03": "what does git keep in place of large files?",
            "04": "twice the same: the line is not to blame. What else may a server send?",
            "05": "a slow line that breaks off leaves the beginning.",
        }),
        "Complaints tell more than one would think. Now the evidence.",
    ),
    "06-medium": Exercise(
        guesses({"06": "two wrappers", "07": "inner wrapper", "08": "outer model", "09": "other size",
                 "10": "refused object"}, {
            "06": "compile is a wrapper. Is it the only one here?",
            "07": "half of the names fit, so the wrapper is not around the whole model.",
            "08": "Lightning's module keeps the network in an attribute of its own.",
            "09": "the words `size mismatch` speak of shapes.",
            "10": "torch refuses before it has seen any name.",
        }),
        "Now see what the instruments say.",
    ),
    "06-nasty": Exercise(
        guesses({"11": "fix", "12": "convert", "13": "choose", "14": "ask"}, {
            "11": "all the tensors are in there, under names with a prefix.",
            "12": "the same network, but a library of its own cuts it into other tensors.",
            "13": "both sets are complete.",
            "14": "what loads without a word leaves no trace in names and shapes.",
        }),
        "Each needs another cure.",
    ),
    "06-cause": Exercise(
        equals("other_naming", {
            "wrapper_prefix": "No wrapper splits one tensor into three.",
            "outer_module_prefix": "Leave `backbone` out: does the model have such a name?",
            "wrong_encoder": "The shapes are those of vits. What about the names?",
        }, "One of the four words is asked for."),
        "A conversion, not a rename.",
    ),
    "06-silent": Exercise(
        equals("none", {
            "depth_head.scratch.output_conv2.2.weight": "Metric and relative models both have it, in the same shape.",
            "depth_head.scratch.output_conv2.2.bias": "Metric and relative models both have it, in the same shape.",
            "max_depth": "It is an argument of the constructor. Is there a tensor of that name?",
        }, "Do the last activation and the factor after it have weights?"),
        "Nothing in the file tells.",
    ),
}  # fmt: skip
