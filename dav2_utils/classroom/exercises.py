"""`check(exercise, answer)`: one short look at an answer, and one of four replies: not attempted, wrong, error, right.

An exercise is a row in `EXERCISES`: a judge, which knows the wrong answers that people actually give. It returns
nothing for a right answer, otherwise a nudge, which says what was seen and where to look, never the answer. The words
are in `locale/en.json` under the exercise's name. In a lesson, an exercise is a card, a stub that ends with
`check("03-anchored", strip)`, two folded hints, and the folded solution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..diagnosis.report import markup
from ..encoders import table_for
from ..errors import CheckpointError
from ..texts import say
from .judges import Judge, NotAttempted, equals, guesses, maps, near, subtract
from .setup import record

_SIGNS = {"not attempted": "○", "wrong": "✗", "error": "!", "right": "✓"}


@dataclass(frozen=True)
class Reply:
    """What `check` answers. `state`: `not attempted`, `wrong`, `error` or `right`."""

    state: str
    text: str

    @property
    def _verdict(self) -> str:
        return f"{_SIGNS[self.state]} {say(f'exercises.states.{self.state}')}"

    def __str__(self) -> str:
        return f"{self._verdict} {self.text}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<p><b>{self._verdict}</b> {markup(self.text)}</p>"


def check(exercise: str, answer: Any) -> Reply:
    """Look at an `answer`: a value or a function, whatever the card asks for; three dots mean not attempted.

    Raises `CheckpointError` (kind `usage`) when there is no exercise of that name. An answer that raises gets a reply.
    """
    if exercise not in EXERCISES:
        raise CheckpointError(f"There is no exercise {exercise!r}", f"one of {', '.join(EXERCISES)}", kind="usage")
    if answer is None or answer is ...:
        return Reply("not attempted", say("exercises.all.dots"))
    try:
        nudge = EXERCISES[exercise](answer, lambda name: say(f"exercises.{exercise}.{name}"))
    except NotAttempted as nothing:
        return Reply("not attempted", str(nothing))
    except Exception as error:  # a learner's function may raise anything
        return Reply("error", say("exercises.all.raised", error=f"{type(error).__name__}: {error}"))
    record(exercise, solved=not nudge)
    return Reply("wrong", nudge) if nudge else Reply("right", say(f"exercises.{exercise}.right"))


_NAMES = len(table_for("tiny"))
_FRONT = {
    "module.fc.weight": "fc.weight",
    "fc.weight": "fc.weight",
    "encoder.module.0.weight": "encoder.module.0.weight",
    "se_module.fc1.weight": "se_module.fc1.weight",
    "modules.0.weight": "modules.0.weight",
    "mode.weight": "mode.weight",
}
_COATS = {
    "module.module.fc.weight": "fc.weight",
    "_orig_mod.module.fc.weight": "fc.weight",
    "module._orig_mod.fc.weight": "fc.weight",
    "module.encoder.module.0.weight": "encoder.module.0.weight",
}
_HEAD = "depth_head.scratch.output_conv2.2"

EXERCISES: dict[str, Judge] = {
    "00-names": equals(3, 2, 6),
    "01-wrapped-twice": equals(
        "module.module.pretrained.cls_token", "module.pretrained.cls_token", "pretrained.cls_token"
    ),
    "01-reverse": equals((_NAMES, _NAMES), (0, 0), (_NAMES, 0), (0, _NAMES)),
    "02-subtract": subtract,
    "02-encoder": equals("vitb", "vits", "vitl", "ViT-B"),
    "02-order": equals(("ddp", "compile"), ("compile", "ddp")),
    "03-letters": equals("reg_0.weight", "reg_module.0.weight", "0.weight", "reg_.0.weight"),
    "03-anchored": maps(_FRONT),
    "03-coats": maps(_FRONT | _COATS),
    "04-nearer": equals(("cup", "lamp"), ("lamp", "cup"), ("cup", "cup"), ("lamp", "lamp")),
    "04-factor": near(20.0, 1.25, 5.0, 80.0, 0.25),
    "04-absrel": near(0.3, 1.0, 0.6, (1 / 3 + 1 / 9) / 2, 30.0),
    "05-inner": equals(
        "wrapped.module.state_dict()", "wrapped.state_dict()", "model.module.state_dict()", "wrapped.module",
        "wrapped.module.state_dict", "module.state_dict()", also=("clean_state_dict(wrapped)",),
    ),
    "05-trap": equals(0, _NAMES),
    "05-facts": equals("max_depth", "encoder", "features"),
    "06-easy": guesses({"01": "box", "02": "prefix", "03": "pointer", "04": "page", "05": "cut"}),
    "06-medium": guesses(
        {"06": "two wrappers", "07": "inner wrapper", "08": "outer model", "09": "other size", "10": "refused object"}
    ),
    "06-nasty": guesses({"11": "fix", "12": "convert", "13": "choose", "14": "ask"}),
    "06-cause": equals("other_naming", "wrapper_prefix", "outer_module_prefix", "wrong_encoder"),
    "06-silent": equals("none", f"{_HEAD}.weight", f"{_HEAD}.bias", "max_depth"),
}  # fmt: skip
