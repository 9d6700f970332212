"""What a processor can change, tested as if on others: `python tests/elsewhere.py [MACHINE ...] [pytest's arguments]`.

Runs the tests marked `elsewhere` once for each machine (default: all), each in a process of its own, since torch, MKL
and oneDNN look at these variables once, when they are loaded. Kernels and torchrun's workers inherit them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# `foreign` costs little more than one's own processor, so CI runs it, and nothing else there is as at home.
MACHINES: dict[str, dict[str, str]] = {
    "foreign": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "AVX2",  # or it counts on AMX, and torch without AVX-512 raises at bfloat16
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX2 FMA3 AVX512F AVX512CD AVX512_SKX",  # 2.4's names, older
        "OPENCV_CPU_DISABLE": "SSE4.1,SSE4.2,AVX,FP16,AVX2,AVX512-SKX",
        "PYTHONHASHSEED": "1",
        "TZ": "Asia/Kathmandu",
        "LC_ALL": "C",
        "HOME": os.path.join(os.devnull, "nobody"),  # noqa: PTH118 - nobody, not even root, can make it
    },
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"},
    "two-threads": {"OMP_NUM_THREADS": "2", "MKL_CBWR": "COMPATIBLE"},
    "ancient": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
}


def main(words: list[str]) -> int:
    names = [word for word in words if word in MACHINES]
    arguments = ["-m", "elsewhere", *(word for word in words if word not in MACHINES)]
    red = []
    for name in names or MACHINES:
        print(f"As on {name}: {' '.join(f'{k}={v}' for k, v in MACHINES[name].items())}", flush=True)
        command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", *arguments]
        if subprocess.run(command, cwd=ROOT, env=os.environ | MACHINES[name]).returncode:
            red.append(name)
    print(f"Red as on {', '.join(red)}." if red else "Green as on every one of them.")
    return int(bool(red))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
