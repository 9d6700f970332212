"""The text of a failed load, as people paste it, read back into two partial tables.

The trick that makes wrapping harmless: terminals break lines anywhere, also inside a name, and tensor names hold no
white space; so colours and line prefixes come off first, then every white space, and the grammar is read from what is
left. All of it takes time proportional to the length of the text. Standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial

from ..keys import Pair, Shape
from .causes import words

_COLOUR = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b?\[[0-9;]{0,12}m|\x1b\[[0-9;?]*[A-Za-z]")
# what a log, a quotation or a terminal puts in front of every line
_LINE_PREFIX = re.compile(
    r"^(?:[ \t]*(?:>|```\w*|##\[\w+\]|\[?rank ?\d+\]?:|[\w.-]{1,40}[ \t]+\|(?=[ \t])"
    r"|\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?"
    r"|\[\d\d:\d\d:\d\d\]|\[?(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\]?(?::|[ \t]*-)?(?=[ \t])))+",
    re.MULTILINE,
)
_TWINS = str.maketrans(
    dict.fromkeys("│┃╭╮╰╯─━\u200b\u200c\u200d\ufeff\u00ad", " ")
    | dict(zip("“”„‘’。；，、：（）［］", '"""\'\';;,,:()[]', strict=True))
    | {"…": "..."}
)
_ENTITIES = (("&quot;", '"'), ("&#34;", '"'), ("&#39;", "'"), ("&#x27;", "'"), ("&lt;", "<"), ("&gt;", ">"))

# on the squeezed text, that is, without any white space; a list in a line of code has no value behind its "="
_HEAD = re.compile(
    r"(?=[muawk])(?:"  # how each of them begins: at most places that is all there is to look at
    r"(?P<missing>missing_?keys?(?:\(s\))?(?:in(?:source)?(?:state_?dict|checkpoint|file)|whenloading\w{0,30})?"
    r"(?::|=(?=[\[({]*[\"'\])}]))"
    r"|keysaremissing:|(?P<new>andarenewlyinitialized)(?:[^:\[]{0,80})?:)"
    r"|(?P<unexpected>unexpected_?keys?(?:\(s\))?(?:in(?:source)?(?:state_?dict|checkpoint|file)|whenloading\w{0,30})?"
    r"(?::|=(?=[\[({]*[\"'\])}]))"
    r"|(?P<unused>werenotusedwheninitializing)\w{1,80}:))",
    re.IGNORECASE,
)
_LIST_END = re.compile(
    r"sizemismatchfor|Whilecopyingtheparameter|Traceback\(most|Duringhandlingof|Theaboveexception|Pleasemakesure"
)
_QUOTED = re.compile(r"""["']([^"',{}\[\]<>]{1,400})["'](?=[,.\])}"';]|$)""")
_PLAIN_NAME = re.compile(r"^(?=[\w\-]{0,100}[._])[A-Za-z_][\w.\-]*$")
_ONE_UNEXPECTED = re.compile(r"""unexpectedkey["']([^"']{1,400})["']in""", re.IGNORECASE)
_KEY_ERROR = re.compile(r"""KeyError:["']{1,2}([\w.\-/]{1,400})(?=["']|$)""")
_SIZE = re.compile(
    r"sizemismatchfor(?P<name>[^:\s\"']{1,400}):|(?P<copying>Whilecopyingtheparameternamed)[\"']?(?P<old>[^\"',]{1,400})"
    r"|Tryingtosetatensorofshape(?P<set>)|(?P<hub>):foundshape"
    r"|Skiploadingparameter[\"'](?P<skipped>[^\"']{1,400})[\"']tothemodelduetoincompatibleshapes:"
)
_SHAPE = re.compile(r"[\[(](\d+(?:,\d+)*,?)?[\])]")
_SET_NAME = re.compile(r"[\])]\)?in[\"']([^\"']{1,400})[\"']")
_CLASS = re.compile(r"Error\(s\)inloadingstate_dictfor([\w.]{1,120}):")
_ERRORS = ("Error:", "Exception:", "EOFError", "Error(s)inloading", 'Error("', "Error('")


@dataclass
class Message:
    """What an error text says about the two tables. The lists hold each name once, in the order of the text."""

    missing: list[str] = field(default_factory=list)  # the model has them, the file does not
    unexpected: list[str] = field(default_factory=list)  # the file has them, the model does not
    size_mismatch: dict[str, Pair] = field(default_factory=dict)  # name: shape in file, shape in model
    model_class: str = ""  # as torch names it: "Error(s) in loading state_dict for ..."
    key_errors: list[str] = field(default_factory=list)  # names that a program looked for and did not find
    complete: bool = False  # nothing shows that the text was cut: every list has its beginning and its end
    headless: list[str] = field(default_factory=list)  # names before any heading: the text begins within a list
    warning: str = ""  # a library announced the lists as it loaded, and raised nothing
    last: str = ""  # the last error in the text, without white space, where it is another one than that of the lists
    squeezed: str = ""  # the whole text without colours, line prefixes and white space

    @property
    def has_names(self) -> bool:
        return bool(self.missing or self.unexpected or self.size_mismatch or self.headless)


def parse(text: str) -> Message:
    """Read an error text: whole or partial, wrapped, coloured, quoted or out of a log.

    A name that is cut off at the end of the text is left out. Understood are the messages of torch 0.3 to 2.x, of
    mmcv, fvcore and transformers, and the `_IncompatibleKeys` that `strict=False` returns. Lists that were printed
    before the last failed load speak only where that says nothing.
    """
    squeezed = squeeze(text)
    start = _last_model(squeezed)
    message = _read(squeezed[start:])
    if start and not message.has_names:
        start, message = 0, _read(squeezed)
    message.squeezed = squeezed
    end = max(squeezed.rfind(word) for word in _ERRORS)
    if end >= 0 and not _about_names(squeezed, end):
        message.last = squeezed[max(0, end - 40) :]
    return message


def _read(body: str) -> Message:
    message = Message()
    classes = _CLASS.findall(body)
    message.model_class = classes[-1].rpartition(".")[2] if classes else ""
    heads = list(_HEAD.finditer(body))
    message.missing, message.unexpected, ended = _lists(body, heads)
    announced = [kind for head in heads for kind in ("new", "unused", "source") if _announces(head, kind)]
    message.warning = "source" if "source" in announced else next(iter(announced), "")
    message.size_mismatch, sizes_ended = _sizes(body)
    message.unexpected = list(dict.fromkeys([*message.unexpected, *_ONE_UNEXPECTED.findall(body)]))
    message.key_errors = [
        name for name in _KEY_ERROR.findall(body) if not name.startswith(("unexpectedkey", "missing"))
    ]
    if not classes:
        message.headless = _headless(body, heads[0].start() if heads else len(body))
    from_the_top = bool(classes) or bool(message.missing and message.unexpected)
    names = bool(message.missing or message.unexpected or message.size_mismatch)
    message.complete = from_the_top and names and ended and sizes_ended and not message.headless
    return message


def _announces(head: re.Match[str], kind: str) -> bool:
    """Whether these are the words of a library that goes on loading: mmcv's and fvcore's with `source` in them."""
    return "insource" in head[0].lower() if kind == "source" else head[kind] is not None


def squeeze(text: str) -> str:
    """`text` without colours, log and quotation prefixes, boxes and white space, with straight quotes and full stops
    of one kind."""
    text = _COLOUR.sub("", text.replace("\r", "\n"))
    if '\\"' in text or "\\n\\t" in text:  # out of a JSON log, or the repr of an exception
        text = text.replace('\\"', '"').replace("\\n", "\n").replace("\\t", "\t")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    most = min(200, 20_000 // (1 + text.count("{")))  # so that what patterns stand for does not outgrow the text
    text = _LINE_PREFIX.sub("", _ROW.sub(partial(_reworded_row, most), text.translate(_TWINS)))
    return "".join(_ONE_A_LINE.sub(partial(_reworded_list, most), text).split())


# Names that stand one a line would run together without white space, so they are put into words like torch's

#: A row of transformers 5's report: layers.{0, 1}.norm.bias | MISSING | |
_ROW = re.compile(
    r"(?<![\w.\-}])([\w.\-]{1,400}(?:\{[\w., ]{1,200}\}[\w.\-]{0,400}){0,3})[ \t]*"
    r"\|[ \t]*(MISSING|UNEXPECTED|MISMATCH)[ \t]*\|([^\n]*)"
)
#: What fvcore (detectron2) lists below a line of its own: neck.lateral2.{bias, weight}
_ONE_A_LINE = re.compile(
    r"(not (?:found )?in the checkpoint|not used by the model):[ \t]*\n"
    r"((?:[ \t]*[\w.\-]{1,400}(?:\{[\w., ]{1,200}\})?[ \t]*(?:\n|\Z))+)"
)


def _reworded_row(most: int, row: re.Match[str]) -> str:
    names = _spelt_out(row[1], most)
    if row[2] == "MISMATCH":
        return "".join(f"size mismatch for {name}: {row[3]}\n" for name in names)
    head = "and are newly initialized" if row[2] == "MISSING" else "were not used when initializing it"
    return f"{head}: {names}\n"


def _reworded_list(most: int, found: re.Match[str]) -> str:
    names = [name for line in found[2].split("\n") for name in _spelt_out(line.strip(), most)]
    return f"{'unexpected' if 'used' in found[1] else 'missing'} keys in source state_dict: {names}\n"


def _spelt_out(pattern: str, most: int) -> list[str]:
    """The first `most` names that a pattern stands for: `{0...11}` is twelve numbers, `{bias, weight}` two words."""
    front, brace, rest = pattern.partition("{")
    if not brace:
        return [pattern] if pattern else []
    inside, _, end = rest.partition("}")
    first, dots, last = inside.partition("...")
    if dots and first.isdecimal() and last.isdecimal():
        parts = [str(number) for number in range(int(first[:9]), min(int(last[:9]) + 1, int(first[:9]) + most))]
    else:
        parts = inside.replace(" ", "").split(",")
    ends = _spelt_out(end, most) or [""]
    return [front + part + tail for part in parts for tail in ends][:most]


def _last_model(squeezed: str) -> int:
    """Where the error of the last failed load begins; of several about one class, as processes say it, the first."""
    headers = list(_CLASS.finditer(squeezed))
    return next((header.start() for header in headers if header[1] == headers[-1][1]), 0)


def _about_names(squeezed: str, start: int) -> bool:
    """Whether the error that begins at `start` has names or sizes in it."""
    return bool(_HEAD.search(squeezed, start) or _SIZE.search(squeezed, start) or _KEY_NAME.match(squeezed, start))


_KEY_NAME = re.compile(r"Error:[\"']{1,2}(?:unexpectedkey|missingkeys?|[\w\-]{1,80}\.)")


def _lists(body: str, heads: list[re.Match[str]]) -> tuple[list[str], list[str], bool]:
    """Missing names, unexpected names, and whether every list comes to its end."""
    found: dict[str, dict[str, None]] = {"missing": {}, "unexpected": {}}
    whole = True
    for head, following in zip(heads, [*heads[1:], None], strict=False):
        stop = following.start() if following else len(body)
        if end := _LIST_END.search(body, head.end(), stop):
            stop = end.start()
        names, ended = _names(body[head.end() : stop])
        found["missing" if head["missing"] else "unexpected"].update(dict.fromkeys(names))
        whole = whole and ended
    return list(found["missing"]), list(found["unexpected"]), whole


def _names(segment: str) -> tuple[list[str], bool]:
    """The names in one list, quoted as torch does or bare between commas as mmcv does, and whether it comes to an end.

    A list that ends in dots does not; nor does one that says how many more there are.
    """
    names: list[str] = []
    after = 0
    for item in _QUOTED.finditer(segment):
        if names and ".." in segment[after : item.start()]:
            return [*names, *(more[1] for more in _QUOTED.finditer(segment, item.start()) if _is_name(more[1]))], False
        if _is_name(item[1]):
            names.append(item[1])
        after = item.end()
        if segment[after : after + 1] in (".", "]", ")", "}", ";") and segment[after : after + 2] != "..":
            return names, bool(names)
    if names:
        return names, segment[after:].endswith("`") and ".." not in segment[after:]
    bare = segment.rstrip(".").split(",")
    names = [name for name in bare if len(name) < 400 and (_PLAIN_NAME.match(name) or name in _entries())]
    return names, not segment or segment in ("[]", "set()", "{}") or segment.endswith((".", "]", ")", "}", "`"))


def _is_name(text: str) -> bool:
    return not text.endswith(".py") and "\\" not in text


def _entries() -> frozenset[str]:
    return words("container") | words("training_state")


def _headless(body: str, stop: int) -> list[str]:
    """The names of a list whose heading was cut off: what stands between quotes and commas before anything else."""
    if end := _LIST_END.search(body, 0, stop):
        stop = end.start()
    pieces = body[:stop].split('","')
    if len(pieces) < 3 or not all(_WHOLE_NAME.match(piece) for piece in pieces[1:-1]):
        return []
    last = pieces[-1].partition('"')
    return [*dict.fromkeys([*pieces[1:-1], *([last[0]] if last[1] and _WHOLE_NAME.match(last[0]) else [])])]


_WHOLE_NAME = re.compile(r"[\w.\-/]{1,400}\Z")


def _sizes(body: str) -> tuple[dict[str, Pair], bool]:
    """Name -> shape in the file, shape in the model; and whether the last such line is whole."""
    found: dict[str, Pair] = {}
    whole = True
    lines = list(_SIZE.finditer(body))
    for line, following in zip(lines, [*lines[1:], None], strict=False):
        stop = min(following.start() if following else len(body), line.end() + 400)
        shapes = [_shape(text) for text in _SHAPE.findall(body, line.end(), stop)][:2]
        whole = len(shapes) == 2
        if whole and (name := _name_of(line, body, stop)):
            first, second = shapes
            found[name] = (second, first) if line["copying"] else (first, second)
    return found, whole and not body.endswith("..")


def _name_of(line: re.Match[str], body: str, stop: int) -> str:
    if line["set"] is not None:
        there = _SET_NAME.search(body, line.end(), stop)
        return there[1] if there else ""
    if line["hub"]:
        return _split(body[max(0, line.start() - 300) : line.start()])
    return line["name"] or line["old"] or line["skipped"] or ""


def _split(text: str) -> str:
    """The name at the end of `text`."""
    end = len(text)
    while end and (text[end - 1].isalnum() or text[end - 1] in "._"):
        end -= 1
    return text[end:]


def _shape(text: str) -> Shape:
    return tuple(int(number) for number in text.split(",") if number)
