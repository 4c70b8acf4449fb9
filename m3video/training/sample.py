"""The sample clip that the package ships: `python -m m3video.training.sample OUT.mp4` writes it again."""

from __future__ import annotations

import sys
from pathlib import Path

from m3video.training.footage import FootageClip, clip_frames, encode_h264
from m3video.training.scenes import DrawnShape, Font, Shot, Sign

FPS = 15
SIZE = (480, 270)


def _shape(kind: str, colour: str, *, x: float, y: float, radius: float, dx: float = 0.0) -> DrawnShape:
    return DrawnShape(kind, colour, x, y, radius, angle=0.1, spin=0.3, dx=dx, dy=0.05, outline=False)


def _shot(
    background: str,
    *,
    backdrop: str = "plain",
    night: bool = False,
    shapes: tuple[DrawnShape, ...] = (),
    sign: Sign | None = None,
    seed: int,
) -> Shot:
    return Shot(
        size=SIZE,
        backdrop=backdrop,
        background=background,
        night=night,
        shapes=shapes,
        sign=sign,
        board=None,
        page=None,
        pan=(0.0, 0.0),
        noise=0.0,
        held_out=False,
        seed=seed,
    )


def sample_clip() -> FootageClip:
    """Return the sample: twelve seconds in four shots, a red circle by day, a white star by night, a sign, a green
    square."""
    return FootageClip(
        shots=(
            _shot("blue", shapes=(_shape("circle", "red", x=0.5, y=0.5, radius=0.24, dx=0.3),), seed=1),
            _shot(
                "green",
                backdrop="gradient",
                night=True,
                shapes=(_shape("star", "white", x=0.25, y=0.3, radius=0.28),),
                seed=2,
            ),
            _shot("yellow", sign=Sign("stop", 0.5, 0.5, 0.7, Font("sans bold"), dark_on_light=True), seed=3),
            _shot("pink", backdrop="texture", shapes=(_shape("square", "green", x=0.72, y=0.6, radius=0.26),), seed=4),
        ),
        seconds=(3.0, 3.0, 3.0, 3.0),
        fades=(False, True, False, False),
    )


def write_sample(path: Path) -> None:
    """Write the sample clip as H.264 yuv420p."""
    clip = sample_clip()
    encode_h264((picture for _, picture in clip_frames(clip, fps=FPS)), path, fps=FPS, crf=24, preset="slow")


if __name__ == "__main__":
    write_sample(Path(sys.argv[1]))
