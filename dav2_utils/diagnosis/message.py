"""The text of a failed load, as people paste it, read back into two partial tables.

The trick that makes wrapping harmless: terminals break lines anywhere, also inside a name, and tensor names hold no
white space; so colours and line prefixes come off first, then every white space, and the grammar is read from what is
left. All of it takes time proportional to the length of the text. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

Shape = tuple[int, ...]

_COLOUR = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b?\[[0-9;]{0,12}m|\x1b\[[0-9;?]*[A-Za-z]")
# what a log, a quotation or a terminal puts in front of every line
_LINE_PREFIX = re.compile(
    r"^(?:[ \t]*(?:>|```\w*|##\[\w+\]|\[?rank ?\d+\]?:|[\w.-]{1,40}[ \t]+\|(?=[ \t])"
    r"|\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?"
    r"|\[\d\d:\d\d:\d\d\]|\[?(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\]?(?::|[ \t]*-)?(?=[ \t])))+",
    re.MULTILINE,
)
_BOXES = str.maketrans(
    dict.fromkeys("│┃╭╮╰╯─━\u200b\u200c\u200d\ufeff\u00ad", " ") | dict(zip("“”„‘’", '"""\'\'', strict=True))
)
_ENTITIES = (("&quot;", '"'), ("&#34;", '"'), ("&#39;", "'"), ("&#x27;", "'"), ("&lt;", "<"), ("&gt;", ">"))

# on the squeezed text, that is, without any white space
_HEAD = re.compile(
    r"(?P<missing>missing_?keys?(?:\(s\))?(?:in(?:source)?(?:state_?dict|checkpoint|file))?[:=]"
    r"|modelparametersorbuffersarenotfoundinthecheckpoint:|andarenewlyinitialized(?:[^:\[]{0,80})?:)"
    r"|(?P<unexpected>unexpected_?keys?(?:\(s\))?(?:in(?:source)?(?:state_?dict|checkpoint|file))?[:=]"
    r"|werenotusedwheninitializing\w{1,80}:|keysthatarenotusedbythemodel:)",
    re.IGNORECASE,
)
_LIST_END = re.compile(r"sizemismatchfor|Whilecopyingtheparameter|Traceback\(most|Duringhandlingof|Theaboveexception")
_QUOTED = re.compile(r"""["']([^"',{}\[\]<>]{1,400})["'](?=[,.\])}"';]|$)""")
_PLAIN_NAME = re.compile(r"^(?=[\w\-]{0,100}[._])[A-Za-z_][\w.\-]*$")
_ONE_UNEXPECTED = re.compile(r"""unexpectedkey["']([^"']{1,400})["']in""", re.IGNORECASE)
_KEY_ERROR = re.compile(r"""KeyError:["']?(?:["'])([^"']{1,400})["']""")
_SIZE = re.compile(
    r"sizemismatchfor(?P<name>[^:\s\"']{1,400}):|(?P<copying>Whilecopyingtheparameternamed)[\"']?(?P<old>[^\"',]{1,400})"
)
_SHAPE = re.compile(r"[\[(](\d+(?:,\d+)*,?)?[\])]")
_CLASS = re.compile(r"Error\(s\)inloadingstate_dictfor([\w.]{1,120}):")


@dataclass
class Message:
    """What an error text says about the two tables. The lists hold each name once, in the order of the text."""

    missing: list[str] = field(default_factory=list)  # the model has them, the file does not
    unexpected: list[str] = field(default_factory=list)  # the file has them, the model does not
    size_mismatch: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)  # name: shape in file, shape in model
    model_class: str = ""  # as torch names it: "Error(s) in loading state_dict for ..."
    key_errors: list[str] = field(default_factory=list)  # names that a program looked for and did not find
    complete: bool = False  # nothing shows that the text was cut: every list has its beginning and its end
    squeezed: str = ""  # the whole text without colours, line prefixes and white space

    @property
    def has_names(self) -> bool:
        return bool(self.missing or self.unexpected or self.size_mismatch)


def parse(text: str) -> Message:
    """Read an error text: whole or partial, wrapped, coloured, quoted or out of a log.

    A name that is cut off at the end of the text is left out. Understood are the messages of torch 0.3 to 2.x, of
    mmcv, fvcore and transformers, and the `_IncompatibleKeys` that `strict=False` returns.
    """
    squeezed = squeeze(text)
    body = _last_model(squeezed)
    message = Message(squeezed=squeezed)
    classes = _CLASS.findall(body)
    message.model_class = classes[-1].rpartition(".")[2] if classes else ""
    message.missing, message.unexpected, ended = _lists(body)
    message.size_mismatch, sizes_ended = _sizes(body)
    message.unexpected = list(dict.fromkeys([*message.unexpected, *_ONE_UNEXPECTED.findall(body)]))
    message.key_errors = [
        name for name in _KEY_ERROR.findall(body) if not name.startswith(("unexpectedkey", "missing"))
    ]
    from_the_top = bool(classes) or bool(message.missing and message.unexpected)
    message.complete = from_the_top and message.has_names and ended and sizes_ended
    return message


def squeeze(text: str) -> str:
    """`text` without colours, log and quotation prefixes, boxes and white space, with straight quotes."""
    text = _COLOUR.sub("", text.replace("\r", "\n"))
    if '\\"' in text or "\\n\\t" in text:  # out of a JSON log, or the repr of an exception
        text = text.replace('\\"', '"').replace("\\n", "\n").replace("\\t", "\t")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    return "".join(_LINE_PREFIX.sub("", text.translate(_BOXES)).split())


def _last_model(squeezed: str) -> str:
    """The part about the last model, where a log holds the errors of several."""
    headers = list(_CLASS.finditer(squeezed))
    last = [header.start() for header in headers if header[1] == headers[-1][1]]
    return squeezed[last[0] :] if len({header[1] for header in headers}) > 1 else squeezed


def _lists(body: str) -> tuple[list[str], list[str], bool]:
    """Missing names, unexpected names, and whether every list comes to its end."""
    found: dict[str, dict[str, None]] = {"missing": {}, "unexpected": {}}
    ended = True
    heads = list(_HEAD.finditer(body))
    for head, following in zip(heads, [*heads[1:], None], strict=False):
        stop = following.start() if following else len(body)
        if end := _LIST_END.search(body, head.end(), stop):
            stop = end.start()
        segment = body[head.end() : stop]
        found[head.lastgroup or "missing"].update(dict.fromkeys(_names(segment)))
        ended = ended and segment.endswith((".", "]", ")", "}", "`"))
    return list(found["missing"]), list(found["unexpected"]), ended


def _names(segment: str) -> Iterator[str]:
    """The names in one list: quoted as torch does, or bare between commas as mmcv does."""
    quoted = _QUOTED.findall(segment)
    if quoted:
        yield from (name for name in quoted if not name.endswith(".py") and "\\" not in name)
    else:
        yield from (name for name in segment.split(",") if len(name) < 400 and _PLAIN_NAME.match(name))


def _sizes(body: str) -> tuple[dict[str, tuple[Shape, Shape]], bool]:
    """Name -> shape in the file, shape in the model; and whether the last such line is whole."""
    found: dict[str, tuple[Shape, Shape]] = {}
    whole = True
    lines = list(_SIZE.finditer(body))
    for line, following in zip(lines, [*lines[1:], None], strict=False):
        stop = min(following.start() if following else len(body), line.end() + 400)
        shapes = [_shape(text) for text in _SHAPE.findall(body, line.end(), stop)][:2]
        whole = len(shapes) == 2
        if whole:
            first, second = shapes
            name = line["name"] or line["old"]
            found[name] = (second, first) if line["copying"] else (first, second)
    return found, whole


def _shape(text: str) -> Shape:
    return tuple(int(number) for number in text.split(",") if number)
