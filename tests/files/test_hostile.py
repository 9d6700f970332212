"""Files made to do harm: never executed, named, and bounded in time and memory. And files broken at random.

`DAV2_FUZZ=10000` sets the number of random files (default 300 of each kind).
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from dav2_utils.errors import CheckpointError, NotACheckpoint, PickleError
from dav2_utils.files.archives import MOST_RECORDS
from dav2_utils.files.checkpoint import inspect_file
from dav2_utils.files.pickles import MOST_STEPS, read_pickle

EXAMPLES = int(os.environ.get("DAV2_FUZZ", "300"))


class Calls:
    """Pickles as a call of whatever function it is given."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def as_torch_file(path: Path, content: bytes, **options: Any) -> Path:
    """A torch zip around a pickle made by hand."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", b"3\n")
    return path


def attacks(trap: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that make the file `trap` when they are loaded, and the name that gives each away."""
    place = trap.as_posix()  # a backslash would begin an escape in the older instructions
    command, code = f"touch {place}", f"open({place!r}, 'w').close()"
    shell, text = command.encode(), code.encode()
    return {
        "os.system": (pickle.dumps({"model": Calls(os.system, command)}), f"{os.name}.system"),
        "eval": (pickle.dumps([Calls(eval, code)]), "eval"),
        "exec in a dict": (pickle.dumps({"a": {"b": Calls(exec, code)}}, 2), "exec"),
        "getattr": (b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'" + shell + b"'\ntR.",
                    "builtins.getattr"),
        "subprocess": (pickle.dumps(Calls(subprocess.check_call, ["touch", place])), "subprocess.check_call"),
        "GLOBAL": (b"cos\nsystem\n(S'" + shell + b"'\ntR.", "os.system"),
        "INST": (b"(S'" + shell + b"'\nios\nsystem\n.", "os.system"),
        "OBJ": (b"(cos\nsystem\nS'" + shell + b"'\no.", "os.system"),
        "STACK_GLOBAL": (
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(shell)]) + shell + b"\x85R.", "os.system"),
        "NEWOBJ": (b"\x80\x02csubprocess\nPopen\n(X" + struct.pack("<I", len(shell)) + shell + b"t\x81.",
                   "subprocess.Popen"),
        "BUILD": (b"\x80\x02c__main__\nX\n)\x81}X\x0c\x00\x00\x00__setstate__cos\nsystem\nsbX"
                  + struct.pack("<I", len(shell)) + shell + b"b.", "os.system"),
        "numpy": (b"cnumpy.testing._private.utils\nrunstring\n(S\"" + text + b"\"\n}tR.",
                  "numpy.testing._private.utils.runstring"),
        "torch hub": (b"ctorch.hub\nload\n(S'" + place.encode() + b"'\nS'evil'\ntR.", "torch.hub.load"),
        "torch, dressed up": (b"ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n(cos\nsystem\n(S'" + shell
                              + b"'\ntRNNNtR.", "os.system"),
        "dotted": (b"\x80\x04\x8c\x05torch\x8c\x10serialization.os\x93.", "torch.serialization.os"),
        "EXT": (b"\x80\x02\x82\x01)R.", "copyreg.extension 1"),
    }  # fmt: skip


NAMES = list(attacks(Path("x")))


@pytest.mark.parametrize("form", ["bare", "zip", "zip, packed", "legacy", "beside weights"])
@pytest.mark.parametrize("name", NAMES)
def test_never_executed_and_named(name: str, form: str, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    content, culprit = attacks(trap)[name]
    path = tmp_path / "weights.pth"
    said = ""
    if form == "beside weights":  # first the attack, whose result is dropped, then a sound checkpoint
        weights = {"model": {"a.weight": torch.ones(2)}}
        torch.save(weights, path)
        with zipfile.ZipFile(path) as archive:
            records = {entry: archive.read(entry) for entry in archive.namelist()}
        body = content.removeprefix(b"\x80\x04\x95" + content[3:11])[:-1]  # without its frame and its end mark
        records["weights/data.pkl"] = body + b"0" + records["weights/data.pkl"]
        with zipfile.ZipFile(path, "w") as archive:
            for entry, record in records.items():
                archive.writestr(entry, record)
        found = inspect_file(path)
        assert found.container == ["model"] and found.table["a.weight"].shape == (2,)
        said = " ".join(found.globals)
    elif form.startswith("zip"):
        as_torch_file(path, content, compression=zipfile.ZIP_DEFLATED if "packed" in form else zipfile.ZIP_STORED)
        said = " ".join(inspect_file(path).globals)
    else:
        old = io.BytesIO()
        torch.save({}, old, _use_new_zipfile_serialization=False)
        first = old.getvalue()
        third = read_pickle(first, read_pickle(first, read_pickle(first).end).end).end
        path.write_bytes(content if form == "bare" else first[:third] + content + pickle.dumps([], 2))
        try:
            said = " ".join(inspect_file(path).globals)
        except NotACheckpoint as error:
            assert error.format == "pickle" and form == "bare"
            said = str(error)
    assert culprit in said or culprit.replace("os.", "posix.") in said
    assert not trap.exists()


@pytest.mark.skipif(os.name == "nt", reason="they call a program of Unix")
def test_the_attacks_are_real(tmp_path: Path) -> None:
    """Loaded in the ordinary way, in a process of its own, most of them do make the file."""
    sprung = 0
    for name, (content, _) in attacks(tmp_path / "sprung").items():
        (tmp_path / "attack").write_bytes(content)
        load = f"import pickle; pickle.load(open({str(tmp_path / 'attack')!r}, 'rb'))"
        if name not in ("numpy", "torch hub", "torch, dressed up", "dotted", "EXT", "BUILD", "NEWOBJ"):
            subprocess.run([sys.executable, "-c", load], capture_output=True, timeout=60)
            sprung += (tmp_path / "sprung").exists()
            (tmp_path / "sprung").unlink(missing_ok=True)
    assert sprung == 9, "all but those that need a program of somebody's own"


def unsigned(number: int) -> bytes:
    return struct.pack("<I", number)


def doubled(open_: bytes, close: bytes, times: int) -> bytes:
    """A container that holds the one before it twice, `times` deep: 2 ** times values, if anybody counted them."""
    body = b"]q\0"
    for level in range(times):
        body += open_ + b"h" + bytes([level]) + b"h" + bytes([level]) + close + b"q" + bytes([level + 1])
    return b"\x80\x02" + body + b"."


MILLION = 1_000_000
DEEP = 300_000  # far beyond what recursion reaches, and squared far beyond the seconds
#: Each made when it is asked for: together they are 300 MB and a second, in every process of the suite.
BOMBS: dict[str, Callable[[], bytes]] = {
    "deep lists": lambda: b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "deep tuples": lambda: b"\x80\x02)" + b"\x85" * DEEP + b".",
    "deep calls": lambda: b"\x80\x02cx\ny\n" + b")R" * DEEP + b".",
    "deep dictionaries": lambda: b"\x80\x02" + b"}U\1a" * DEEP + b"N" + b"s" * DEEP + b".",
    "doubled lists": lambda: doubled(b"(", b"l", 200),
    "doubled tuples": lambda: doubled(b"(", b"t", 200),
    "doubled dictionaries": lambda: b"\x80\x02}q\0" + b"".join(
        b"(U\1ah%cU\1bh%cdq%c" % (n, n, n + 1) for n in range(200)) + b".",
    "tuples as names": lambda: doubled(b"(", b"t", 100)[:-1] + b"}" + b"hdNs.",
    "numbers that collide": lambda: b"\x80\x02}" + b"".join(
        b"\x8a\x0c" + (n * (2**61 - 1)).to_bytes(12, "little") + b"Ns" for n in range(300_000)) + b".",
    "long repeated DUP": lambda: b"\x80\x02]" + b"2" * (MOST_STEPS + 10) + b".",
    "endless text": lambda: b"\x80\x02" + b"X" + unsigned(2**32 - 1) + b"a" * 1000,
    "bytes for ever": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**63) + b"a",
    "a number of megabytes": lambda: b"\x80\x02\x8b" + struct.pack("<i", 8 * MILLION) + b"\x7f" * 8 * MILLION + b".",
    "digits": lambda: b"I" + b"9" * MILLION + b"\n.",
    "copies of a list": lambda: b"\x80\x02(" + b"N" * MILLION
        + b"lq\0ctorch\nSize\nq\x01" + b"h\x01h\0\x85R0" * 300_000 + b"h\0.",
    "copies of a dictionary": lambda: b"\x80\x02}(" + b"".join(b"J" + unsigned(n) + b"N" for n in range(200_000))
        + b"uq\0ccollections\nCounter\nq\x01" + b"h\x01h\0\x85R" * 300_000 + b".",
    "copies of bytes": lambda: b"\x80\x02X" + unsigned(MILLION) + b"a" * MILLION + b"q\0c_codecs\nencode\nq\x01"
        + b"h\x01h\0U\x06latin1\x86R" * 300_000 + b".",
    "many names": lambda: b"".join(b"ca%d\nb\n" % n for n in range(200_000)) + b".",
    "long names": lambda: (b"c" + b"a" * 3000 + b"\nb\n") * 5000 + b".",
    "a shape of thousands": lambda: b"\x80\x02ctorch._utils\n_rebuild_meta_tensor_no_storage\nctorch\nfloat32\n("
        + b"K\2" * 100_000 + b"tN\x87R.",
    "a storage named by tuples": lambda: doubled(b"(", b"t", 100)[:-1]
        + b"(U\7storagectorch\nFloatStorage\nhdU\3cpuK\1tQ.",
    "many dictionaries": lambda: b"\x80\x02" + b"}" * 4_000_000 + b".",
    "memo far out": lambda: b"\x80\x02N" + b"".join(b"r" + unsigned(n * 4000) for n in range(MILLION)) + b".",
    "one dictionary in many places": lambda: b"\x80\x02}q\0("
        + b"".join(b"J" + unsigned(n) + b"N" for n in range(100_000)) + b"u}("
        + b"".join(b"U\4%04dh\0" % n for n in range(2000)) + b"u.",
    "modules in circles": lambda: pickle.dumps(1, 2)[:-2]
        + b"cx\nM\n)\x81q\0}(U\x0b_parametersccollections\nOrderedDict\n)R" b"U\x08_modules}(U\1ah\0U\1bh\0uub.",
}  # fmt: skip


TOO_MUCH = {
    "long repeated DUP", "endless text", "bytes for ever", "digits", "copies of a list", "copies of a dictionary",
    "copies of bytes", "many names", "long names", "a shape of thousands", "a storage named by tuples",
    "modules in circles", "one dictionary in many places", "tuples as names", "numbers that collide",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_bounded(name: str, tmp_path: Path) -> None:
    """In a process of its own: within 30 seconds of processor time and 1.5 GB, ending with an answer or our error.

    macOS has no limit on memory that holds, and Windows has neither: there the clock alone stops it.
    """
    path = as_torch_file(tmp_path / "bomb.pth", BOMBS[name](), compression=zipfile.ZIP_DEFLATED)
    said = end_bounded(path)
    assert said.startswith("refused") == (name in TOO_MUCH), said[:300]


def test_a_line_is_short() -> None:
    """Before Python 3.11 a number of a million digits took minutes."""
    with pytest.raises(PickleError, match="a line does not end"):
        read_pickle(BOMBS["digits"]())


def test_a_sparse_tensor_without_its_size() -> None:
    content = b"\x80\x02ctorch._utils\n_rebuild_meta_tensor_no_storage\nctorch\nfloat32\n)\x86Rq\0"
    with pytest.raises(PickleError, match="cannot be followed"):
        read_pickle(content + b"0ctorch._utils\n_rebuild_sparse_tensor\nN]h\0a\x86R.")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_a_pickle_that_ends_too_early_is_cut_wherever_it_ends(protocol: int) -> None:
    value = {"text": ["a" * 300, 7, 700, 70_000, 2**40, -1, 0.5, None, True], "b": ((), (1,), (1, 2), (1, 2, 3, 4))}
    content = pickle.dumps([value, value, list(range(300))], protocol)
    assert read_pickle(content).value == [value, value, list(range(300))]
    for length in range(len(content)):
        with pytest.raises(PickleError) as caught:
            read_pickle(content[:length])
        assert caught.value.cut, length


def end_bounded(path: Path, seconds: int = 30, gigabytes: float = 1.5) -> str:
    look = (
        "import sys, json\nfrom dav2_utils import CheckpointError, inspect_file\n"
        "try:\n    found = inspect_file(sys.argv[1])\n"
        "    print(json.dumps(found.to_dict(True)), found, found._repr_html_())\n"
        "except CheckpointError as error:\n    print('refused', error)\n"
    )
    limit = None
    if sys.platform != "win32":
        import resource

        limits = {resource.RLIMIT_CPU: seconds}
        if sys.platform == "linux":
            limits[resource.RLIMIT_AS] = int(gigabytes * 2**30)

        def limit() -> None:
            for what, most in limits.items():
                resource.setrlimit(what, (most, most))

    command = [sys.executable, "-c", look, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=limit)
    assert done.returncode == 0, done.stderr[-1000:]
    assert len(done.stdout) < 100_000_000
    return done.stdout


def test_doubled_modules(tmp_path: Path) -> None:
    """A pickled module that holds the one below it twice, 60 deep: 2 ** 60 names."""
    from torch import nn

    inner: nn.Module = nn.Linear(1, 1)
    for _ in range(60):
        outer = nn.Module()
        outer.a = outer.b = inner
        inner = outer
    torch.save(inner, tmp_path / "a.pth")
    assert "refers to itself" in end_bounded(tmp_path / "a.pth")


def test_modules_deep_within_each_other(tmp_path: Path) -> None:
    module = b"cx\nM\n)\x81}(U\x0b_parameters}U\x08_modules}U\0"
    path = as_torch_file(tmp_path / "a.pth", b"\x80\x02" + module * 3000 + b"N" + b"sub" * 3000 + b".")
    assert "deep within" in end_bounded(path)


def test_a_name_with_every_kind_of_character(tmp_path: Path) -> None:
    """Found by the random files: a zero byte in a name."""
    names = ["a\0.1.w", "a.0.\0", "\ud800.w", "\u202e.w", "", ".", "1", "٣.w", "x" * 5000]
    torch.save({name: torch.ones(1) for name in names if "\ud800" not in name}, tmp_path / "a.pth")
    found = inspect_file(tmp_path / "a.pth")
    assert len(found.table) == len(names) - 1
    for text in (str(found), found._repr_html_()):
        assert "\0" not in text and "\u202e" not in text


def test_zip_bombs(tmp_path: Path) -> None:
    path = as_torch_file(tmp_path / "bomb.pth", b"\x80\x02" + bytes(300_000_000), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 400_000
    with pytest.raises(NotACheckpoint, match="bytes; at most"):
        inspect_file(path)
    lie = path.read_bytes().replace(struct.pack("<I", 300_000_002), struct.pack("<I", 1000))
    path.write_bytes(lie)  # the directory says 1,000 bytes
    assert "refused" in end_bounded(path, 10, 0.35)


def test_a_directory_that_declares_too_much(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    end = struct.pack("<4sLQL", b"PK\6\7", 0, 4, 1) + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, 99, 9, 0)
    for count, length in ((MOST_RECORDS + 1, 50), (2**64 - 1, 2**64 - 1), (2**40, 0)):
        large = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, 0)
        path.write_bytes(b"PK\3\4" + large + end)
        with pytest.raises(NotACheckpoint):
            inspect_file(path)


def test_names_that_climb_out_of_the_folder(tmp_path: Path) -> None:
    """Nothing is ever unpacked to the disk, so such names are names."""
    torch.save({"../../a.weight": torch.ones(2)}, tmp_path / "a.pth")
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "b.pth"
    with zipfile.ZipFile(tmp_path / "a.pth") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("a/../../../outside", b"x")
    before = sorted(tmp_path.rglob("*"))
    assert list(inspect_file(path).table) == ["../../a.weight"]
    with zipfile.ZipFile(path, "a") as new:
        new.writestr("/tmp/outside", b"x")
    with pytest.raises(NotACheckpoint, match="its record '/tmp/outside' lies outside"):
        inspect_file(path)
    assert sorted(tmp_path.rglob("*")) == before
    climbing = tmp_path / "c.pth"
    with zipfile.ZipFile(climbing, "w") as archive:
        archive.writestr("../data.pkl", pickle.dumps({}))
        archive.writestr("../version", b"3")
    inspect_file(climbing)


# Files broken at random


def whole_files() -> dict[str, bytes]:
    torch.manual_seed(0)
    state = {
        "model": {f"module.blocks.{i}.weight": torch.randn(3, 4) for i in range(5)},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "epoch": 39, "path": Path("/data"),
    }  # fmt: skip
    found = {"safetensors": save(state["model"], metadata={"encoder": "tiny"})}
    for kind, options in (
        ("zip", {}),
        ("zip4", {"pickle_protocol": 4}),
        ("legacy", {"_use_new_zipfile_serialization": False}),
    ):
        file = io.BytesIO()
        torch.save(state, file, **options)
        found[kind] = file.getvalue()
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(found["zip"])) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return found | {"packed": packed.getvalue()}


WHOLE = whole_files()


def answer(path: Path, content: bytes) -> None:
    """A result that prints in every form, or an error of ours with something to say; nothing else, and soon."""
    path.write_bytes(content)
    start = time.process_time()
    try:
        found = inspect_file(path)
    except CheckpointError as error:
        assert error.kind in ("no checkpoint", "usage") and len(str(error)) > 20
        json.dumps(str(error))
    else:
        json.dumps(found.to_dict(keys=True), allow_nan=False)
        assert str(found) and found._repr_html_()
    assert time.process_time() - start < 5


fuzz = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True
)


@fuzz
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_cut_flipped_or_swapped(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[kind])
    place = st.integers(0, len(content) - 1)
    for how in data.draw(
        st.lists(st.sampled_from(["cut", "flip", "byte", "swap", "remove", "zero"]), min_size=1, max_size=4)
    ):
        at, to = sorted((data.draw(place) % len(content), data.draw(place) % len(content)))
        length = data.draw(st.integers(1, 64))
        if how == "cut":
            del content[max(1, to) :]
        elif how == "flip":
            content[at] ^= 1 << (length % 8)
        elif how == "byte":
            content[at] = data.draw(st.integers(0, 255))
        elif how == "swap":
            content[at : at + length], content[to : to + length] = content[to : to + length], content[at : at + length]
        elif how == "remove":
            del content[at : at + length]
        elif how == "zero":
            content[at : at + length] = bytes(length)
        if not content:
            break
    answer(tmp_path / "a.pth", bytes(content))


@fuzz
@given(st.data())
def test_a_sound_archive_around_a_broken_pickle(tmp_path: Path, data: st.DataObject) -> None:
    with zipfile.ZipFile(io.BytesIO(WHOLE[data.draw(st.sampled_from(["zip", "zip4"]))])) as archive:
        records = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    names = sorted(records)
    inner = records["archive/data.pkl"]
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(inner) - 1))
        inner[at] = data.draw(st.integers(0, 255) | st.sampled_from(list(b"(.0123lt}]sueaRbQch)\x81\x85\x93\x94")))
    if data.draw(st.booleans()):  # two records change places
        one, other = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
        records[one], records[other] = records[other], records[one]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, bytes(records[name]))
    answer(tmp_path / "a.pth", made.getvalue())


@fuzz
@given(st.lists(st.sampled_from([bytes([code]) for code in range(256)]) | st.binary(max_size=9), max_size=60))
def test_pickles_made_of_random_instructions(parts: list[bytes]) -> None:
    try:
        read_pickle(b"".join(parts) + b".")
    except PickleError as error:
        assert str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(["F32", "BF16"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=4) | st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@fuzz
@given(st.dictionaries(st.text(max_size=4) | st.just("__metadata__"), JSON, max_size=4), st.integers(-3, 40))
def test_safetensors_headers_of_any_json(tmp_path: Path, header: dict[str, Any], data: int) -> None:
    text = json.dumps(header).encode()
    answer(tmp_path / "a", struct.pack("<Q", len(text)) + text + bytes(max(0, data)))


# Found by attacking the whole package: what a file can do beyond the reading of its pickle


def text(content: str) -> bytes:
    data = content.encode("utf-8", "surrogatepass")
    return b"X" + unsigned(len(data)) + data


def called(name: str, *args: bytes) -> bytes:
    """The instructions that call `name` (module and function, a line break between) with `args`."""
    return b"c" + name.encode() + b"\n(" + b"".join(args) + b"tR"


def entries(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"}(" + b"".join(name + value for name, value in pairs) + b"u"


def tensor(dtype: str = "float32", shape: bytes = b"K\2", stride: bytes = b"K\1", hooks: bytes = b"") -> bytes:
    """The instructions for a tensor of two numbers in the record data/0."""
    where = b"(" + text("storage") + b"ctorch.storage\nUntypedStorage\n" + text("0") + text("cpu") + b"K\x08tQ"
    hooks, kind = hooks or b"ccollections\nOrderedDict\n)R", f"ctorch\n{dtype}\n".encode()
    shape, stride = b"(" + shape + b"t", b"(" + stride + b"t"
    return called("torch._utils\n_rebuild_tensor_v3", where, b"K\0", shape, stride, b"\x89", hooks, kind)


WEIGHT = text("module.weight"), tensor()


def made(path: Path, *pairs: tuple[bytes, bytes], content: bytes = b"") -> Path:
    """A checkpoint with `pairs` in it, or with a pickle of whatever else, around the bytes of one tensor."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + (content or entries(*pairs)) + b".")
        archive.writestr(zipfile.ZipInfo("archive/data/0"), struct.pack("<2f", 1, 2))
        archive.writestr("archive/version", b"3\n")
    return path


AS_A_DTYPE = b"q\0cnumpy\ndtype\nh\0\x85Rq\1cnumpy.core.multiarray\nscalar\nq\2h\1N\x86q\3"
HEAVY: dict[str, Callable[[], bytes | str]] = {
    "a number that goes for ever as a dtype": lambda: text("<f" + "a" * 10_000_000) + AS_A_DTYPE
        + b"h\2h\3R0" * 200_000 + b"N.",
    "tuples out of bytes": lambda: b"\x80\3B" + unsigned(9_000_000) + bytes(9_000_000) + b"q\0ctorch\nSize\nq\1"
        + b"h\1h\0\x85R" * 300 + b".",
    "sets, which torch would make": lambda: entries(WEIGHT, (text("x"), b"](" + b"K\1" * 100_000
        + b"eq\0cbuiltins\nset\nq\1(" + b"h\1h\0\x85R" * 300 + b"t")),
    "bytes by their number": lambda: entries(
        WEIGHT, (text("x"), called("builtins\nbytearray", b"\x8a\5" + b"\x7f" * 5))),
    "a shape beyond counting": lambda: entries((text("a.b"), called("torch._utils\n_rebuild_meta_tensor_no_storage",
        b"ctorch\nfloat32\n", b"(" + b"\x8a\x08" + b"\x3f" * 8 + b"2" * 30 + b"t", b"N", b"N"))),
    "a name of megabytes": lambda: entries(
        (text("module." * MILLION + "w"), tensor()), (text("_orig_mod." * MILLION), tensor())),
    "a long name in many places": lambda: text("k" * 30 * MILLION) + b"q\0" + entries((b"h\0", b"}"))[:-1] + b"uq\x010"
        + entries(*((text(f"a{n}"), b"h\1") for n in range(80_000))),
    "a long name before many": lambda: entries((text("z" * MILLION), entries((text("model"), entries(WEIGHT)),
        *((text(f"x{n}"), b"N") for n in range(100_000))))),
    "a header of dimensions": lambda: '{"a":{"dtype":"F32","data_offsets":[0,4],"shape":['
        + ",".join(["4611686018427387903"] * 300_000) + "]}}",
    "a header of dictionaries": lambda: '{"a":[' + "{}," * 20 * MILLION + "{}]}",
}  # fmt: skip


@pytest.mark.parametrize("name", HEAVY)
def test_heavy_files_are_bounded(name: str, tmp_path: Path) -> None:
    content, path = HEAVY[name](), tmp_path / "a"
    if isinstance(content, str):
        path.write_bytes(struct.pack("<Q", len(content)) + content.encode() + bytes(4))
    else:
        made(path, content=content.removeprefix(b"\x80\3").removesuffix(b"."))
    assert end_bounded(path).startswith("refused") != name.startswith(("a long name", "a number that"))


@pytest.mark.parametrize("dtype", ["<b>x</b>", "float32\x1b[31m", "a b"])
def test_a_dtype_that_is_none(dtype: str, tmp_path: Path) -> None:
    """It would stand in a notebook as HTML, and in a terminal as a colour."""
    with pytest.raises(NotACheckpoint, match="dtype"):
        inspect_file(made(tmp_path / "a.pth", (text("a.b"), tensor(dtype))))
    kind = f"ctorch\n{dtype}\n".encode()
    spread = called("torch._utils\n_rebuild_wrapper_subclass", b"ctorch.distributed.tensor\nDTensor\n", kind, b"(K\2t")
    with pytest.raises(NotACheckpoint, match="dtype"):
        inspect_file(made(tmp_path / "b.pth", (text("a.b"), spread)))


def test_records_that_differ_in_case_alone(tmp_path: Path) -> None:
    """torch finds the first of them, whatever the case; we would read the other."""
    path = made(tmp_path / "a.pth", WEIGHT)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/DATA.PKL", b"\x80\2}.")
    with pytest.raises(NotACheckpoint, match="two records"):
        inspect_file(path)


def shadowed(kind: str) -> bytes:
    """A dictionary, or a parameter in one, on which the file hangs an attribute that hides a method."""
    if kind in ("detach", "contiguous", "untyped_storage"):
        hooks, state = b"ccollections\nOrderedDict\n)R", entries((text(kind), b"K\5"))
        rebuilt = called("torch._utils\n_rebuild_parameter_with_state", tensor(), b"\x89", hooks, state)
        return entries((text("module.weight"), rebuilt))
    made_by = b"ccollections\nOrderedDict\n)R(" + b"".join(WEIGHT) + b"u"
    if kind.startswith("_metadata"):
        wrong = {"_metadata of numbers": entries((text(""), b"K\5")), "_metadata by numbers": b"}K\1}s"}[kind]
        return made_by + entries((text("_metadata"), wrong)) + b"b"
    return made_by + entries((text(kind), b"K\5")) + b"b"


CIRCLE = entries((text("model"), entries(WEIGHT)))[:-1] + text("me") + b"h\0u"
MISLEADING = {
    **{kind: shadowed(kind) for kind in ("items", "get", "keys", "detach", "untyped_storage")},
    **{kind: shadowed(kind) for kind in ("_metadata of numbers", "_metadata by numbers")},
    "itself": b"}q\0" + CIRCLE[1:],
    "doubled": b"]q\0" + b"".join(b"(h%ch%clq%c" % (n, n, n + 1) for n in range(100)) + b"q\xf00"
        + entries((text("model"), entries(WEIGHT)), (text("x"), b"h\xf0")),
    "half a character": entries((text("module.\ud800.weight"), tensor())),
    "expanded to gigabytes": entries(
        (text("module.weight"), tensor(shape=b"J" + unsigned(400 * MILLION), stride=b"K\0"))),
    "no weights": entries((text("x"), b"K\1")),
    "hooks that are none": entries(WEIGHT, (text("x"), tensor(hooks=b"ctorch\nSize\n"))),
    "without numbers": entries(WEIGHT, (text("module.b"), called("torch._utils\n_rebuild_meta_tensor_no_storage",
        b"ctorch\nfloat32\n", b"(K\1t", b"(K\1t", b"\x89"))),
}  # fmt: skip


WAYS = [
    (name, way)
    for name in MISLEADING
    for way in ("pth", "safetensors", "keep")
    if way == "pth" or name != "expanded to gigabytes"
]  # the other two write the gigabytes


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_files_that_mislead_the_repair(name: str, way: str, tmp_path: Path) -> None:
    """It ends with a result or a reason, soon, and without the memory that an expanded tensor would take."""
    from dav2_utils.repair.fixing import fix_file

    resource = pytest.importorskip("resource", reason="Windows does not count memory this way")
    path = made(tmp_path / "a.pth", content=MISLEADING[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    target = tmp_path / ("b.safetensors" if way == "safetensors" else "b.pth")
    done = fix_file(path, target, keep_training_state=way == "keep")
    assert (done.status == "fixed") == target.exists() and (done.identical or done.reason)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000


def weights(path: Path, value: float = 1.0) -> Path:
    torch.save({"model": {"module.a.weight": torch.full((2,), value)}}, path)
    return path


NAMES_OF_FILES = [
    b"a\nb.pth", b"\x1b[31mred.pth", "a\x9bb\u202egnp.pth".encode(), b"\xff\xfe.pth", b"--json.pth", b"<b>$(id).pth",
    "é.pth".encode(), "雪".encode() * 80 + b".pth", b"b" * 238 + b".pth", b"a" * 251 + b".pth",
]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse some of these names")
@pytest.mark.parametrize("raw", NAMES_OF_FILES, ids=[ascii(raw[:12]) for raw in NAMES_OF_FILES])
def test_names_of_files(raw: bytes, tmp_path: Path, monkeypatch: Any, capsysbinary: Any) -> None:
    """Each command says what it does in JSON that is ASCII, and without a control character."""
    from dav2_utils.cli import main

    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(raw)
    weights(tmp_path / "x.pth").rename(name)
    for command in ("inspect", "diagnose", "explain", "fix"):
        for json_too in ([], ["--json"]):
            with pytest.raises(SystemExit) as ended:
                main([command, *json_too, "--", name])
            assert ended.value.code in (0, 1, 3)
            said, warned = capsysbinary.readouterr()
            assert said.isascii() and json.loads(said) if json_too else b"\x1b" not in said + warned
            if command == "fix" and not json_too:  # written whole, or not at all and with a reason
                assert b"fixed:" in said or b"UTF-8" in said or b"too long" in said
                assert len(list(tmp_path.iterdir())) == (3 if b"fixed:" in said else 1)
    with pytest.raises(SystemExit):
        main(["inspect", name + "\x1b[31m"])
    assert b"\x1b" not in capsysbinary.readouterr()[1]


def test_folders_with_traps(tmp_path: Path) -> None:
    """Links in circles, a device or a pipe as the target, facts without an end, and results that meet in one place."""
    from dav2_utils.repair.batch import fix_many
    from dav2_utils.repair.fixing import fix_file
    from dav2_utils.weights.loading import load_into

    runs, out = tmp_path / "runs", tmp_path / "out"
    runs.mkdir()
    for number, name in enumerate(("a.ckpt", "a.pt", "a.pth")):
        weights(runs / name, number)
    (runs / "loop.pth").symlink_to("loop.pth")
    (runs / "up").symlink_to("..")
    found = fix_many([runs], out, format="pth", force=True)
    assert [repair.status for repair in found] == ["fixed", "refused", "refused"]
    with pytest.raises(CheckpointError, match="among its own"):
        fix_many([runs], runs)
    os.mkfifo(tmp_path / "pipe.pth")
    assert "not a file" in str(fix_file(runs / "a.pth", tmp_path / "pipe.pth", force=True).reason)
    for target in (None, "/dev/zero"):
        notes = runs / "a.pth.json"
        notes.symlink_to(target) if target else os.mkfifo(notes)
        model = torch.nn.Module()
        model.a = torch.nn.Linear(2, 1)
        model.a.weight, model.a.bias = torch.nn.Parameter(torch.zeros(2)), None
        assert load_into(model, runs / "a.pth").status == "loaded"
        notes.unlink()
