"""What is read out of an error's text: names, shapes, and whether the text is whole, on which "repairable" rests."""

from __future__ import annotations

import pytest

from dav2_utils.diagnosis.message import Message, parse, squeeze

CLASS = "Error(s) in loading state_dict for models.Net:\n"
MISSING = 'Missing key(s) in state_dict: "a.w", "b.w". \n'
UNEXPECTED = 'Unexpected key(s) in state_dict: "module.a.w", "module.b.w". \n'
SIZE = (
    "size mismatch for c.w: copying a param with shape torch.Size([2, 3]) from checkpoint, the shape in current model "
    "is torch.Size([2, 4]).\n"
)


def test_all_that_a_whole_message_says() -> None:
    assert parse(CLASS + MISSING + UNEXPECTED + SIZE + SIZE.replace("c.w", "d").replace("[2, 4]", "[]")) == Message(
        missing=["a.w", "b.w"],
        unexpected=["module.a.w", "module.b.w"],
        size_mismatch={"c.w": ((2, 3), (2, 4)), "d": ((2, 3), ())},
        model_class="Net",
        complete=True,
        squeezed=squeeze(CLASS + MISSING + UNEXPECTED + SIZE + SIZE.replace("c.w", "d").replace("[2, 4]", "[]")),
    )
    assert parse("") == Message() and not Message().has_names


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        (CLASS + MISSING + UNEXPECTED, True),
        (CLASS + MISSING, True),
        (CLASS + UNEXPECTED, True),
        (CLASS + SIZE, True),
        (MISSING + UNEXPECTED, True),
        (MISSING + UNEXPECTED + SIZE, True),
        # what stood in front of the one list is not there
        (MISSING, False),
        (UNEXPECTED, False),
        (SIZE, False),
        (UNEXPECTED + SIZE, False),
        # no names
        (CLASS, False),
        (CLASS + "Missing key(s) in state_dict: . \n", False),
        # cut at the end, in the middle of a list, and between the lists
        (CLASS + MISSING + UNEXPECTED[:-4], False),
        (CLASS + MISSING[:-4] + UNEXPECTED, False),
        (CLASS + MISSING + UNEXPECTED[:-20], False),
        (CLASS + MISSING[:-4] + SIZE, False),
        (CLASS + MISSING + UNEXPECTED + SIZE[:60], False),
        (CLASS + SIZE + SIZE.replace("c.w", "d.w")[:60], False),
        # as Python prints a list, and as a quotation ends
        (CLASS + "missing keys: ['a.w', 'b.w']", True),
        (CLASS + "missing keys: ['a.w', 'b.w'", False),
        (CLASS + "missing keys: {'a.w'}", True),
        (CLASS + "(missing keys: 'a.w')", True),
        (f"`{CLASS}{MISSING}`", True),
    ],
)
def test_whole_or_cut(text: str, complete: bool) -> None:
    assert parse(text).complete is complete


def test_only_the_last_model_of_a_log_counts() -> None:
    first = CLASS.replace("Net", "Other") + MISSING.replace("a.w", "z.w") + SIZE
    log = "Traceback (most recent call last)\n" + first + "\nTraceback (most recent call last)\n" + CLASS + MISSING
    assert (parse(log).model_class, parse(log).missing, parse(log).size_mismatch) == ("Net", ["a.w", "b.w"], {})
    again = parse(CLASS + MISSING + CLASS + MISSING.replace("a.w", "z.w"))  # one model, as each process says it
    assert parse(UNEXPECTED + CLASS + MISSING).unexpected == [], "what was printed before is about something else"
    assert parse(UNEXPECTED + CLASS).unexpected == ["module.a.w", "module.b.w"], "unless the error says nothing"
    assert again.missing == ["a.w", "b.w", "z.w"] and again.model_class == "Net"


@pytest.mark.parametrize(
    ("text", "missing", "unexpected"),
    [
        ("KeyError: 'unexpected key \"module.a.w\" in state_dict'", [], ["module.a.w"]),
        ("KeyError: 'missing keys in state_dict: \"{'a.w', 'b.w'}\"'", ["a.w", "b.w"], []),
        ("missing keys in source state_dict: a.w, b.w\nunexpected key in checkpoint: c.w", ["a.w", "b.w"], ["c.w"]),
        ("missing keys in source state_dict: a_w, b-w, all, " + "x." * 200 + "w, 0.w", ["a_w"], []),
        ('Missing key(s) in state_dict: "a.w", "b.w", "c', ["a.w", "b.w"], []),
        ("Missing key(s) in state_dict: \"a.w\". File \"net.py\", line 3", ["a.w"], []),
        ('Missing key(s) in state_dict: "a.w", "C:\\nets\\b", "b.w".', ["a.w", "b.w"], []),
        ('Missing key(s) in state_dict: "a.w". Traceback (most recent call last) "b.w".', ["a.w"], []),
        ('Missing key(s) in state_dict: "a.w". size mismatch for b.w: "c.w".', ["a.w"], []),
        ('Missing key(s) in state_dict: "a.w", "a.w". Missing key(s) in state_dict: "b.w", "a.w".', ["a.w", "b.w"], []),
    ],
)  # fmt: skip
def test_names(text: str, missing: list[str], unexpected: list[str]) -> None:
    found = parse(text)
    assert (found.missing, found.unexpected, found.key_errors) == (missing, unexpected, [])


def test_a_program_that_looked_for_a_name() -> None:
    assert parse("KeyError: 'state_dict'").key_errors == ["state_dict"]
    assert parse("KeyError: 'missing_link'\nKeyError: \"model\"").key_errors == ["model"]


def test_shapes_of_old_and_new_messages() -> None:
    old = (
        "While copying the parameter named a.w, whose dimensions in the model are torch.Size([3]) and whose "
        "dimensions in the checkpoint are torch.Size([5])."
    )
    assert parse(old).size_mismatch == {"a.w": ((5,), (3,))}
    assert parse(old.replace("[3]", "(3,)").replace("[5]", "(5, 1)")).size_mismatch == {"a.w": ((5, 1), (3,))}
    third = SIZE[:-1] + " (of torch.Size([9]))\n"
    assert parse(third).size_mismatch == {"c.w": ((2, 3), (2, 4))}, "the first two shapes"
    far = SIZE[:60] + "x" * 400 + SIZE[60:]
    assert parse(far).size_mismatch == {}, "of another message"
    assert parse(SIZE[:60] + SIZE.replace("c.w", "d.w")).size_mismatch == {"d.w": ((2, 3), (2, 4))}


@pytest.mark.parametrize(
    ("text", "squeezed"),
    [
        ("a \t\r\nb", "ab"),
        ("\x1b[31ma\x1b[0m\x1b]8;;x\x07b", "ab"),
        ("“a” ‘b’ │c│", "\"a\"'b'c"),
        ("&quot;a&quot; &#39;b&#39; &lt;c&gt; &#34;&#x27;", "\"a\"'b'<c>\"'"),
        ("> a\nrank 0: b\n2024-01-02 03:04:05,678 c\nINFO - d\nworker-1 | e", "abcde"),
        (r'{"msg": "\"a\"\n\tb"}', '{"msg":""a"b"}'),
        (r'{"msg": "\"a\""}', '{"msg":""a""}'),
        ("> a\r> b", "ab"),
        (r"RuntimeError('a:\n\tb')", "RuntimeError('a:b')"),
        (r"C:\nets\train", r"C:\nets\train"),  # a path, and no text out of a log
    ],
)
def test_squeezed(text: str, squeezed: str) -> None:
    assert squeeze(text) == squeezed


@pytest.mark.parametrize(
    ("text", "missing", "unexpected", "complete"),
    [
        (CLASS + 'Missing key(s) in state_dict: "a.w", "b.w", ...', ["a.w", "b.w"], [], False),  # not its end
        (CLASS + 'Missing key(s) in state_dict: "a.w", "b.w"…', ["a.w", "b.w"], [], False),
        (CLASS + MISSING + 'Unexpected key(s) in state_dict: "c.w". Any ideas?', ["a.w", "b.w"], ["c.w"], True),
        (CLASS + 'Missing key(s) in state_dict: "a.w"，"b.w"。怎么解决？', ["a.w", "b.w"], [], True),
        ("missing_keys, unexpected_keys = net.load_state_dict(ckpt['model'])\n" + CLASS + SIZE, [], [], True),
        ("unexpected key in source state_dict: fc.weight, fc.bias\n" + CLASS + MISSING, ["a.w", "b.w"], [], True),
        ("Missing key(s) when loading model: ['a.w', 'b.w']", ["a.w", "b.w"], [], False),
        ("unexpected key in source state_dict: model, optimizer", [], ["model", "optimizer"], False),
    ],
)  # fmt: skip
def test_lists_as_people_paste_them(text: str, missing: list[str], unexpected: list[str], complete: bool) -> None:
    found = parse(text)
    assert (found.missing, found.unexpected, found.complete) == (missing, unexpected, complete)


def test_a_text_that_begins_within_a_list_is_read() -> None:
    found = parse('orm1.weight", "blocks.3.b", "blocks.3.c", "blocks.3.d". \n' + SIZE)
    assert found.headless == ["blocks.3.b", "blocks.3.c", "blocks.3.d"] and list(found.size_mismatch) == ["c.w"]


ONE_A_LINE = """Some model parameters or buffers are not found in the checkpoint:
neck.lateral2.{bias, weight}
The checkpoint state_dict contains keys that are not used by the model:
  stem.fc.{bias, weight}
  stem.conv1.bias
"""
REPORT = """Net LOAD REPORT from: a/b
Key                        | Status     | Details
---------------------------+------------+--------
layer.{0...2}.norm.weight  | MISMATCH   | Reinit due to size mismatch - ckpt: torch.Size([8]) vs model:torch.Size([4])
layer.{0, 1}.fc.bias       | MISSING    |
head.weight                | UNEXPECTED |

Notes:
- UNEXPECTED: can be ignored when loading from different task/architecture
"""
NEEDED = """ValueError: Cannot load <class 'Net'> from /m because the following keys are missing:
 down.0.to_k.weight, up.0.to_k.weight.
 Please make sure to pass `low_cpu_mem_usage=False` and `device_map=None`
"""
SKIPPED = (
    "Skip loading parameter 'head.weight' to the model due to incompatible shapes: (180, 64, 3, 3) in the checkpoint "
    "but (36, 64, 3, 3) in the model! You might want to double check if this is expected."
)


@pytest.mark.parametrize(
    ("text", "missing", "unexpected", "sizes"),
    [
        (ONE_A_LINE, ["neck.lateral2.bias", "neck.lateral2.weight"],
         ["stem.fc.bias", "stem.fc.weight", "stem.conv1.bias"], {}),
        (ONE_A_LINE.replace(" or buffers are not found in", " are not in").replace("{bias, ", "{w, "),
         ["neck.lateral2.w", "neck.lateral2.weight"], ["stem.fc.w", "stem.fc.weight", "stem.conv1.bias"], {}),
        (REPORT, ["layer.0.fc.bias", "layer.1.fc.bias"], ["head.weight"],
         {f"layer.{n}.norm.weight": ((8,), (4,)) for n in range(3)}),
        (NEEDED, ["down.0.to_k.weight", "up.0.to_k.weight"], [], {}),
        (SKIPPED, [], [], {"head.weight": ((180, 64, 3, 3), (36, 64, 3, 3))}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "> ", "[2024-05-06 07:08:09] ", "worker-1  | "])
def test_lists_of_other_libraries(
    text: str, missing: list[str], unexpected: list[str], sizes: dict[str, object], prefix: str
) -> None:
    found = parse("".join(prefix + line + "\n" for line in text.splitlines()))
    assert (found.missing, found.unexpected, found.size_mismatch) == (missing, unexpected, sizes)


def test_a_pattern_of_names_does_not_grow_beyond_measure() -> None:
    row = "a.{0...999999999}.b.{0...999999999}.c.{0...999999999}.w | MISSING |"
    assert len(parse(row).missing) == 200
    assert parse("a.{0...x}.w | MISSING |").missing, "no range, and no traceback"
    many = "\n".join(f"a{number}.{{0...999}} | MISSING |" for number in range(2_000))
    assert 2_000 <= len(parse(many).missing) <= 20_000


def test_a_sentence_in_a_key_error_is_no_name() -> None:
    assert not parse("KeyError: 'The file holds only the model. Set `Saver.weights_only` to False.'").key_errors
    assert parse("KeyError: 'model.a.weight'").key_errors == ["model.a.weight"]
