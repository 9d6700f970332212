"""What is written without torch is, to the byte, what torch.save and the safetensors library write of the same."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from dav2_utils.diagnosis.diagnose import diagnose
from dav2_utils.files.checkpoint import inspect_file
from dav2_utils.repair import writing as by_torch
from dav2_utils.repair.copying import plan_copy, write_copy
from dav2_utils.repair.stripping import compact, renamed
from dav2_utils.writing.plan import Span
from dav2_utils.writing.torch_zip import Entry, lay_out

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
          torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64, torch.complex64,
          torch.float8_e4m3fn, torch.float8_e5m2]  # fmt: skip


def copied(source: Path, target: Path, format: str = "pth", keep: bool = False) -> str | None:
    """The fingerprint of the copy, or None where torch has to do it."""
    opened = inspect_file(source)
    with source.open("rb", buffering=0) as file:
        found = plan_copy(opened, diagnose(opened), file, format, keep, {"source": source.name})
        if found is None:
            return None
        target.touch()
        return write_copy(found, file, target)


def saved(source: Path) -> tuple[bytes, str]:
    """What torch.save makes of the same tensors, without its serialization id, and their fingerprint."""
    found, content = diagnose(source), torch.load(source, weights_only=False)  # made here, and of any protocol
    for part in found.path:
        content = content[part]
    state = compact(renamed(content, found.rename))
    file = io.BytesIO()
    torch.save(state, file)
    with zipfile.ZipFile(file) as records:
        entries = [Entry(one.filename, records.read(one), one.CRC) for one in records.infolist()]
    parts = lay_out(one for one in entries if not one.name.endswith("serialization_id")).parts
    return b"".join(part for part in parts if not isinstance(part, Span)), by_torch.fingerprint(state)


def test_the_layout_is_torchs_own() -> None:
    """With the id too: every byte around the records is as torch writes it."""
    for state in (
        nn.Linear(2, 3).state_dict(),
        {"none": torch.zeros(0)},
        {f"p{i}": torch.ones(i % 3) for i in range(999)},
    ):
        file = io.BytesIO()
        torch.save(state, file)
        with zipfile.ZipFile(file) as records:
            entries = [Entry(one.filename, records.read(one), one.CRC) for one in records.infolist()]
        assert b"".join(lay_out(entries).parts) == file.getvalue()  # type: ignore[arg-type]


class Made:
    """State dicts by chance: shapes, strides, dtypes, shared and sliced storages, names, modules, containers."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        torch.manual_seed(seed)
        self.large = torch.arange(3000.0)

    def tensor(self) -> torch.Tensor:
        shape = [self.dice.randint(0 if self.dice.random() < 0.1 else 1, 5) for _ in range(self.dice.randint(0, 4))]
        plain = (torch.randn(shape) * 3).to(self.dice.choice(DTYPES))
        ways: list[Callable[[], torch.Tensor]] = [
            lambda: plain,
            lambda: plain.transpose(0, -1) if plain.dim() > 1 else plain,
            lambda: plain.expand(3, *plain.shape),
            lambda: (
                nn.Parameter(plain, requires_grad=plain.is_floating_point()) if plain.is_floating_point() else plain
            ),
            lambda: self.large[self.dice.randint(0, 900) :][: self.dice.randint(1, 40)],
            lambda: torch.as_strided(self.large, (2, 3), (3, 1), self.dice.randint(0, 50)),
            lambda: plain[1:] if plain.dim() and len(plain) > 1 else plain,
        ]
        return self.dice.choice(ways)()

    def content(self) -> Any:
        front = self.dice.choice(["", "module.", "module._orig_mod.", "model."])
        names = self.dice.sample(["weight", "a.b.weight", "深度.x", "0.1", "blocks.10.w", "blocks.2.w", "x y.z", "é.w",
                                  "running_mean", "w", "0", "emb.weight"], self.dice.randint(1, 10))  # fmt: skip
        state: Any = OrderedDict((front + name, self.tensor()) for name in names)
        if self.dice.random() < 0.3:
            name = next(iter(state))
            state[name + "_tied"] = state[name]
        if self.dice.random() < 0.4:
            state._metadata = OrderedDict({"": {"version": 1}, front + "a.b": {"version": 2, "local": "w"}})
        state = dict(state) if self.dice.random() < 0.2 else state
        ways = [state, {"model": state, "epoch": 3, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}},
                {"state_dict": state, "hyper_parameters": {"lr": 0.1}}]  # fmt: skip
        return self.dice.choice(ways)


@pytest.mark.parametrize("part", range(4))
def test_made_contents_come_out_as_torch_saves_them(part: int, tmp_path: Path) -> None:
    ours = 0
    for seed in range(part * 60, part * 60 + 60):
        source, target = tmp_path / f"{seed}.pth", tmp_path / f"{seed}.out"
        made = Made(seed)
        protocol, crc = made.dice.choice([2, 2, 3, 4, 5]), made.dice.random() < 0.9
        torch.serialization.set_crc32_options(crc)
        torch.save(made.content(), source, pickle_protocol=protocol)
        torch.serialization.set_crc32_options(True)
        digest = copied(source, target)
        if digest is not None:
            ours += 1
            content, theirs = saved(source)
            assert target.read_bytes() == content, seed
            assert digest == theirs, seed
            back = torch.load(target, weights_only=True, mmap=True)
            assert by_torch.fingerprint(back) == digest, seed
            with zipfile.ZipFile(target) as records:
                assert records.testzip() is None, seed
    assert ours >= 45, "most of it is copied and not left to torch"


@pytest.mark.parametrize("wrapped", [True, False])
def test_real_modules_come_out_as_torch_saves_them(wrapped: bool, tmp_path: Path) -> None:
    model: nn.Module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.TransformerEncoderLayer(8, 2), nn.LSTM(3, 4)
    )
    wrapper = nn.DataParallel(model) if wrapped else model
    torch.save({"model": wrapper.state_dict(), "epoch": 1}, tmp_path / "a.pth")
    assert copied(tmp_path / "a.pth", tmp_path / "b.pth")
    assert (tmp_path / "b.pth").read_bytes() == saved(tmp_path / "a.pth")[0]
    assert model.load_state_dict(torch.load(tmp_path / "b.pth", weights_only=True)).missing_keys == []


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_safetensors_come_out_as_the_library_saves_them(kind: str, tmp_path: Path) -> None:
    state = {f"module.{'zyx'[i % 3]}{i}": torch.randn(3, 2).to(dtype) for i, dtype in enumerate(DTYPES)}
    state |= {"module.none": torch.zeros(0, 3), 'module.q"\x01é': torch.tensor(1.5)}
    source = tmp_path / f"a.{kind}"
    torch.save({"model": state}, source) if kind == "pth" else source.write_bytes(save_safetensors(state))
    assert copied(source, tmp_path / "b.safetensors", "safetensors")
    content = (tmp_path / "b.safetensors").read_bytes()
    bare = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    library = save_safetensors(bare, {"source": source.name, "format": "pt"})
    length = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + length]) == json.loads(library[8 : 8 + length])
    assert content[8 + length :] == library[8 + length :] and len(content) == len(library)
    front = [b[8 : 8 + length].partition(b"},")[2] for b in (content, library)]  # the library shuffles what is in front
    assert front[0] == front[1]
    back = load_safetensors(content)
    assert copied(tmp_path / "b.safetensors", tmp_path / "c.pth") == by_torch.fingerprint(back)
    again = torch.load(tmp_path / "c.pth", weights_only=True)
    assert list(again) == list(json.loads(content[8 : 8 + length]))[1:] and by_torch.fingerprint(again) == (
        by_torch.fingerprint(back)
    )


@pytest.mark.slow
def test_records_beyond_four_gigabytes(tmp_path: Path) -> None:
    """A storage of over 4 GiB, and small ones behind it: the numbers of ZIP64, as torch writes them."""
    with (tmp_path / "numbers").open("wb") as file:
        file.truncate(2**32 + 2**20)  # a hole: no bytes on the disk
    large = torch.from_file(str(tmp_path / "numbers"), size=2**32 + 2**20, dtype=torch.uint8)
    state = {"large": large, "small": torch.arange(3), "none": torch.zeros(0)}
    with torch.serialization.skip_data():
        torch.save(state, tmp_path / "torch.pth")
    skeleton = (tmp_path / "torch.pth").open("rb")
    with zipfile.ZipFile(skeleton) as records:
        # the numbers are left out of such a file, and so are their checksums
        entries = [Entry(i.filename, Span(0, i.file_size) if "/data/" in i.filename else records.read(i), i.CRC)
                   for i in records.infolist()]  # fmt: skip
        place = 0
        for part in lay_out(entries).parts:
            if not isinstance(part, Span):
                skeleton.seek(place)
                assert skeleton.read(len(part)) == part, place
            place += part.size if isinstance(part, Span) else len(part)
    skeleton.close()
    assert place == (tmp_path / "torch.pth").stat().st_size
    (tmp_path / "torch.pth").unlink()
