"""The one place that imports OpenCV, whose system library is missing on many bare machines."""

from __future__ import annotations

from typing import Any

from ..environment import CURE_GL
from ..errors import CheckpointError


def import_cv2() -> Any:
    """OpenCV, or a `CheckpointError` that says which system library is missing."""
    try:
        import cv2
    except ImportError as error:
        cure = CURE_GL if "lib" in str(error) else "pip install opencv-python"
        raise CheckpointError(
            f"OpenCV cannot be imported: {error}", "opencv-python", cure, kind="environment"
        ) from error
    return cv2
