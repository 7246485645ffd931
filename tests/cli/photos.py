"""A folder of 300 pictures as people have them: most are good, some are not what they should be."""

import numpy as np
import pytest

CLASSES = ("discs", "rings", "stripes")
BROKEN = ("discs/007.jpg", "rings/003.jpg", "stripes/009.jpg")
SIZE = (120, 160)  # height, width


def draw(kind, rng):
    """A shape of any colour on a ground of any colour, uint8 of shape (120, 160, 3)."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    radius, angle = rng.uniform(20, 45), rng.uniform(0, np.pi)
    y -= SIZE[0] / 2 + rng.uniform(-15, 15)
    x -= SIZE[1] / 2 + rng.uniform(-30, 30)
    distance = np.hypot(y, x)
    inside = {
        "discs": distance < radius,
        "rings": abs(distance - radius) < 6,
        "stripes": np.sin((x * np.cos(angle) + y * np.sin(angle)) * 10 / radius) > 0,
    }[kind]
    shape, ground = rng.uniform(0, 255, (2, 3))
    shape += np.where(ground < 128, 80, -80) * (abs(shape - ground) < 80)  # to be seen at all
    picture = np.where(inside[..., None], shape, ground) + rng.normal(0, 12, (*SIZE, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


def make_folder(root, each=100):
    """Write them: every tenth is grey, every twentieth a PNG of 16 bits, the others are JPEGs."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for kind in CLASSES:
        (root / kind).mkdir(parents=True)
        for number in range(each):
            picture, path = draw(kind, rng), root / kind / f"{number:03}.jpg"
            if number % 20 == 0:
                grey = picture.mean(axis=2).astype(np.uint16) * 257
                image.fromarray(grey).save(path.with_suffix(".png"))
            else:
                mode = "L" if number % 10 == 0 else "RGB"
                image.fromarray(picture).convert(mode).save(path, quality=85)
    (root / "discs" / "007.jpg").write_bytes((root / "discs" / "006.jpg").read_bytes()[:900])
    (root / "rings" / "003.jpg").write_bytes(b"")
    (root / "stripes" / "009.jpg").write_text("no picture")
    (root / "triangles").mkdir()
    (root / "notes.txt").write_text("a stray file")
    return root
