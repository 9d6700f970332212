"""How often `explain` and `diagnose` name the cause of failures made from real networks, cause by cause, way by way.

    python benchmarks/bench_failures.py [--half ab] [--every 4] [--ways 3] [--made-up] [--details 20] [--only KIND]

Every network of `architectures` fails in every way of `made_failures`; torch raises each error. `explain` gets each
text as people paste it (`--ways`: how many ways of pasting for each failure; the same ones in every run), `diagnose`
the two tables. "first": the first cause is one that a careful expert would accept; "two": one of the first two.
"falsely": renaming is said to repair what it cannot. "ambiguous": another kind of failure of the same network, with
other causes, shows the very same words; "oracle": how often somebody who knew both tables of all of these could be
right.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import pickle
import random
import sys
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from side_by_side import FOLDER, ROOT, Row, parser, report

sys.path[:0] = [str(ROOT / "tests")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pasting import WAYS  # noqa: E402

from dav2_utils.diagnosis.diagnose import diagnose  # noqa: E402
from dav2_utils.diagnosis.explain import explain  # noqa: E402
from dav2_utils.errors import AmbiguousSets, CheckpointError  # noqa: E402
from dav2_utils.keys import TensorInfo  # noqa: E402

LIBRARIES = ("torchvision", "timm", "transformers", "segmentation_models_pytorch", "diffusers", "open_clip")
MAKERS = (ROOT / "tests" / "made_failures.py", ROOT / "benchmarks" / "architectures.py")


class Stored(NamedTuple):
    """A failure without modules and tensors, so that making it once is enough."""

    net: str
    kind: str
    renaming: bool | None
    text: str
    file: Any
    model: dict[str, TensorInfo]

    @property
    def causes(self) -> tuple[str, ...]:
        return labels()[self.kind]


@dataclass
class Answer:
    """What was said about one failure in one way, and what is true."""

    net: str
    kind: str
    way: str  # of pasting, or "tables"
    shown: str  # the beginning of the text, or of what differs
    said: list[str]
    falsely: bool = False  # a repair is promised that is not possible
    ambiguous: bool = False  # another kind, with other causes, shows the very same words
    oracle: tuple[float, float] = (1, 1)  # how often the best cause, and the best two, would be right for these words

    @property
    def causes(self) -> tuple[str, ...]:
        return labels()[self.kind]

    @property
    def first(self) -> bool:
        return bool(self.said) and self.said[0] in self.causes

    @property
    def two(self) -> bool:
        return any(name in self.causes for name in self.said[:2])


@dataclass
class Tally:
    """Counts of answers, for one line of a table."""

    counts: Counter[str] = field(default_factory=Counter)
    oracle: tuple[float, float] = (0, 0)

    def add(self, answer: Answer) -> None:
        self.counts["all"] += 1
        for what in ("first", "two", "falsely", "ambiguous"):
            self.counts[what] += getattr(answer, what)
        self.counts["very"] += bool(answer.said) and answer.said[0] == answer.causes[0]
        self.counts["silent"] += not answer.said
        self.counts["shown"] += answer.first or answer.ambiguous
        self.oracle = (self.oracle[0] + answer.oracle[0], self.oracle[1] + answer.oracle[1])

    def share(self, what: str) -> float:
        return 100 * self.counts[what] / max(1, self.counts["all"])

    def line(self, title: str) -> str:
        shares = "".join(
            f"{self.share(what):8.1f}" for what in ("first", "two", "very", "silent", "ambiguous", "shown")
        )
        oracle = "".join(f"{100 * sum_ / max(1, self.counts['all']):8.1f}" for sum_ in self.oracle)
        return f"{title:34}{self.counts['all']:7}{shares}{oracle}{self.counts['falsely']:8}"


COLUMNS = ("first", "two", "very", "silent", "ambig.", "1 or a.", "oracle", "of two", "falsely")
HEAD = f"{'':34}{'all':>7}" + "".join(f"{name:>8}" for name in COLUMNS)


@cache
def labels() -> dict[str, tuple[str, ...]]:
    """Kind -> the causes that are right, read from the source: another label needs no new failure."""
    return {name: tuple(ast.literal_eval(argument) for argument in call.args) for name, call in _decorated().items()}


def structural(name: str) -> bool:
    """Whether structure alone shows this kind, in a network with invented names."""
    return not any(word.arg == "structural" for word in _decorated()[name].keywords)


@cache
def _decorated() -> dict[str, ast.Call]:
    functions = [n for n in ast.parse(MAKERS[0].read_text("utf-8")).body if isinstance(n, ast.FunctionDef)]
    calls = {node.name: node.decorator_list[0] for node in functions if node.decorator_list}
    return {name: call for name, call in calls.items() if isinstance(call, ast.Call)}


def folder() -> Path:
    """Where failures are kept until what makes them changes, labels aside."""
    made = [ast.parse(path.read_text(encoding="utf-8")) for path in MAKERS]
    for node in made[0].body:
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []
    key = hashlib.sha256("".join(map(ast.dump, made)).encode()).hexdigest()[:12]
    path = FOLDER / "failures" / key
    path.mkdir(parents=True, exist_ok=True)
    return path


def made(half: str, words: bool, every: int = 1, only: str = "") -> Iterator[list[Stored]]:
    """Each network's failures; those made before are read again."""
    index = folder() / "nets.pickle"
    if not index.exists():
        from architectures import nets

        index.write_bytes(pickle.dumps({which: [net.name for net in some] for which, some in nets().items()}))
    for name in pickle.loads(index.read_bytes())[half][::every]:  # noqa: S301 - our own
        if only and only not in name:
            continue
        path = folder() / f"{name.replace('/', '-')}{' made up' * words}.pickle"
        if not path.exists():
            path.write_bytes(pickle.dumps([tuple(row) for row in _stored(half, name, words)]))
        stored = [Stored(*row) for row in pickle.loads(path.read_bytes())]  # noqa: S301 - our own
        yield [failure for failure in stored if structural(failure.kind) or not words]


def _stored(half: str, name: str, words: bool) -> list[Stored]:
    from architectures import nets
    from made_failures import failures

    net = next(net for net in nets()[half] if net.name == name)
    net = net.in_made_up_words() if words else net
    print(f"making the failures of {name}", file=sys.stderr, flush=True)
    return [
        Stored(name, f.kind.name, f.made.renaming, f.text, _infos(f.made.file), _infos(f.made.model.state_dict()))
        for f in failures(net)
    ]  # fmt: skip


def _infos(value: Any) -> Any:
    """Names and shapes instead of tensors, however deep they lie."""
    if hasattr(value, "shape"):
        return TensorInfo(tuple(value.shape), str(value.dtype).removeprefix("torch."))
    if isinstance(value, dict):
        return {name: _infos(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_infos(inner) for inner in value]
    return value if isinstance(value, (int, float, str, type(None))) else str(value)


SEVERAL = ("two_in_a_container", "adversarial")  # two complete sets: asking which is meant is the right answer
HIDING = ("cut", "begins_in_the_middle", "last_lines", "one_list_only")  # a whole list may be out of sight
LOSSY = ("three_names_and_dots", "few_names", *HIDING)
Pasted = tuple[Stored, str, str, tuple[Stored, ...]]


def pasted(failures: list[Stored], ways: int, only: str = "") -> Iterator[Pasted]:
    """Each failure's text in some of the ways, always the same ones; and which others show the very same words."""
    for failure in failures:
        if only and only not in failure.kind:
            continue
        chosen = random.Random(f"{failure.net} {failure.kind}").sample(sorted(WAYS), min(ways, len(WAYS)))
        for way in chosen:
            seed = f"{failure.net} {failure.kind} {way}"
            if shown := WAYS[way](failure.text, random.Random(seed)):
                yield failure, way, shown, tuple(_others(failures, failure, way, shown, seed))


def _others(failures: list[Stored], failure: Stored, way: str, shown: str, seed: str) -> Iterator[Stored]:
    for other in failures:
        same = WAYS[way](other.text, random.Random(seed)) == shown if way in HIDING else other.text == failure.text
        if same and other.kind != failure.kind:
            yield other


def texts(failures: list[Stored], ways: int, only: str = "") -> Iterator[Answer]:
    for failure, way, shown, others in pasted(failures, ways, only):
        found = explain(shown).causes
        promised = any(cause.repairable_by_renaming for cause in found)
        falsely = promised and failure.renaming is False and way != "few_names" and not _by_names_alone(failure)
        ambiguous = any(other.causes[0] not in failure.causes for other in others)
        said = [cause.cause for cause in found]
        oracle = _oracle([failure, *others])
        yield Answer(failure.net, failure.kind, way, shown[:900], said, falsely, ambiguous, oracle)


def _by_names_alone(failure: Stored) -> bool:
    """Whether as many names are missing as are unexpected and no size is said to differ: what would refuse the
    renaming is in the tables, and no such text shows it. (Nor does a retyped list show that it is not whole.)"""
    both = set(failure.file) & set(failure.model)
    return (
        len(failure.file) == len(failure.model)
        and "size mismatch" not in failure.text
        and len(both) < len(failure.model)
    )


def _oracle(same: list[Stored]) -> tuple[float, float]:
    """What somebody who knows every kind and both tables could say of one text: the share of these failures, all of
    which show it, for which the best cause is right, and the best two."""
    right = [set(failure.causes) for failure in same]
    causes = sorted(set().union(*right))
    one = max(sum(cause in each for each in right) for cause in causes)
    two = max(sum(bool(each & {a, b}) for each in right) for a in causes for b in causes)
    return one / len(same), two / len(same)


def tables(failures: list[Stored], only: str = "") -> Iterator[Answer]:
    for failure in failures:
        if not only or only in failure.kind:
            said, promised = _diagnosed(failure)
            falsely = promised and failure.renaming is False
            yield Answer(failure.net, failure.kind, "tables", _example(failure), said, falsely)


def _diagnosed(failure: Stored) -> tuple[list[str], bool]:
    try:
        found = diagnose(failure.file, failure.model)
    except AmbiguousSets:
        return ["training_container" if failure.kind in SEVERAL else "several sets"], False
    except CheckpointError as error:
        none = "no named tensors" in str(error)
        return ["not_a_state_dict" if none else f"error: {error}"[:60]], False
    return [cause.cause for cause in found.causes], found.verdict in ("loads", "repairable")


def print_by(answers: Iterable[Answer], what: str) -> dict[str, Tally]:
    """A table with a line for each value of `what`, the worst first."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for answer in answers:
        value = {"way": answer.way, "kind": answer.kind, "cause": answer.causes[0]}[what]
        tallies[value].add(answer)
    print(f"\n{HEAD.replace(' ' * len(what), what, 1)}")
    for value, tally in sorted(tallies.items(), key=lambda item: item[1].share("first")):
        print(tally.line(value))
    return tallies


def print_confusions(answers: list[Answer], most: int) -> None:
    """Which kind is mistaken for which, with the shortest text of each."""
    wrong: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in answers:
        if not answer.first:
            wrong[answer.kind, " + ".join(answer.said[:2]) or "nothing"].append(answer)
    for (kind, said), some in sorted(wrong.items(), key=lambda item: -len(item[1]))[:most]:
        ways = ", ".join(f"{way} {n}" for way, n in Counter(a.way for a in some).most_common(4))
        least = min(some, key=lambda answer: (answer.ambiguous, len(answer.shown)))
        print(f"\n{len(some)} x {kind} ({'/'.join(least.causes)}) -> {said}   [{ways}] e.g. {least.net}")
        print("    " + least.shown[:700].replace("\n", "\n    "))


def _example(failure: Stored) -> str:
    """The first few differences between two tables."""
    file, model = failure.file, failure.model
    lines = [f"file {n} {getattr(t, 'shape', '...')}" for n, t in file.items() if n not in model][:4]
    lines += [f"model {n} {t.shape}" for n, t in model.items() if n not in file][:4]
    sizes = [n for n in model if n in file and getattr(file[n], "shape", None) != model[n].shape]
    return "\n".join(lines + [f"{n} {getattr(file[n], 'shape', '...')} {model[n].shape}" for n in sizes[:4]])


def summary(title: str, answers: list[Answer], goals: tuple[float, float], tables_: bool) -> list[Row]:
    total = Tally()
    for answer in answers:
        total.add(answer)
    print(f"\n=== {title}\n{HEAD}\n{total.line('all')}")
    ways = {} if tables_ else print_by(answers, "way")
    print_by(answers, "kind")
    causes = print_by(answers, "cause")
    rows = [Row(f"{title}: a right cause first", "at least", goals[0], "%", total.share("first"),
                f"{total.counts['all']} of them; the very cause {total.share('very'):.1f} %"),
            Row(f"{title}: falsely repairable", "at most", 0, "", total.counts["falsely"], "")]  # fmt: skip
    if not tables_:
        rows.append(Row(f"{title}: a right cause among two", "at least", goals[1], "%", total.share("two"), ""))
    worst = {"cause": (causes, 85.0), "way of pasting": (ways, 88.0)}
    for what, (tallies, goal) in worst.items():
        if tallies:
            name, tally = min(tallies.items(), key=lambda item: item[1].share("first"))
            rows.append(Row(f"{title}: the worst {what}", "at least", goal, "%", tally.share("first"), name))
    return rows


def agreement(said: list[Answer], compared: list[Answer], name: str) -> Row:
    """How often a text that is whole and the tables behind it have the same first cause."""
    by_tables = {(answer.net, answer.kind): answer.said[:1] for answer in compared}
    pairs = [(a.kind, a.said[:1], by_tables[a.net, a.kind]) for a in said if a.way not in LOSSY]
    pairs = [pair for pair in pairs if pair[2] != ["not_a_state_dict"]]  # refused before it is looked at
    unlike = Counter(
        f"{kind}: {'+'.join(text) or 'nothing'} / {'+'.join(both) or 'nothing'}"
        for kind, text, both in pairs
        if text != both
    )
    print("\n=== explain and diagnose disagree")
    for what, count in unlike.most_common(25):
        print(f"{count:5} {what}")
    share = 100 * (1 - unlike.total() / max(1, len(pairs)))
    return Row(f"explain and diagnose, {name}: the same cause first", "at least", 95, "%", share, f"{len(pairs)} texts")


def measure(half: str, o: Namespace) -> list[Row]:
    """The rows of one half of the networks."""
    said: list[Answer] = []
    compared: list[Answer] = []
    for failures in made(half, o.made_up, o.every, o.net):
        said += texts(failures, o.ways, o.only)
        compared += tables(failures, o.only)
    name = f"half {half}{', made-up words' * o.made_up}"
    found = summary(f"explain, {name}", said, (90, 90) if o.made_up else (96, 99), tables_=False)
    found += summary(f"diagnose, {name}", compared, (90, 90) if o.made_up else (95, 99), tables_=True)
    found.append(agreement(said, compared, name))
    for answer in [answer for answer in (*said, *compared) if answer.falsely]:
        print(f"a false promise: {answer.kind}, {answer.net}, {answer.way}: {' + '.join(answer.said)}")
    if o.details:
        for title, answers in (("explain", said), ("diagnose", compared)):
            print(f"\n=== confusions of {title}")
            print_confusions(answers, o.details)
    return found


def rows(o: Namespace) -> list[Row]:
    if absent := [library for library in LIBRARIES if importlib.util.find_spec(library) is None]:
        anchor = f"no {', '.join(absent)}: pip install -e .[failures]"
        return [Row("failures made from real networks", "at least", 96, "%", None, anchor)]
    return [row for half in o.half for row in measure(half, o)]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--half", default="ab", help="of the networks: a, b, c or several (%(default)s)")
    options.add_argument("--ways", type=int, default=4, help="of pasting, for each failure (%(default)s)")
    options.add_argument("--every", type=int, default=4, metavar="N", help="only each Nth network (%(default)s)")
    options.add_argument("--made-up", action="store_true", help="every component of every name is an invented word")
    options.add_argument("--details", type=int, default=0, metavar="N", help="print the N largest confusions")
    options.add_argument("--only", default="", metavar="KIND", help="only kinds with this in their names")
    options.add_argument("--net", default="", help="only networks with this in their names")
    o = options.parse_args()
    report(rows(o), o.rows)


if __name__ == "__main__":
    main()
