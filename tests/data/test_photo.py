import io
import os
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_edge.data import _photo, read_image
from tinygrad_edge.errors import DataError, FileError

pytest.importorskip("PIL")
from PIL import Image, ImageOps, features  # noqa: E402

#: Four colours in the corners of 8 x 6 pixels: red, green above blue, white.
QUARTERS = np.zeros((6, 8, 3), np.uint8)
QUARTERS[:3, :4] = 255, 0, 0
QUARTERS[:3, 4:] = 0, 255, 0
QUARTERS[3:, :4] = 0, 0, 255
QUARTERS[3:, 4:] = 255, 255, 255


@pytest.fixture
def read(tmp_path):
    """A function that saves a picture and reads it."""

    def save_and_read(picture, name="a.png", size=(6, 8), channels=3, **options):
        picture.save(tmp_path / name, **options)
        return read_image(tmp_path / name, size, channels)

    return save_and_read


def corners(image):
    return [image[:, y, x].tolist() for y in (0, -1) for x in (0, -1)]


def test_rgb_is_as_it_is(read):
    image = read(Image.fromarray(QUARTERS))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, QUARTERS.transpose(2, 0, 1))


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP"])
def test_formats_are_told_by_content(read, format):
    if format == "WEBP" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    options = {"lossless": True} if format == "WEBP" else {}
    image = read(Image.fromarray(QUARTERS), "a.jpg", format=format, **options)
    np.testing.assert_array_equal(image, QUARTERS.transpose(2, 0, 1))


GREY = np.linspace(0, 255, 48).astype(np.uint8).reshape(6, 8)
ALPHA = 255 - (255 - GREY.astype(int)) * GREY // 255  # grey over white, as opaque as it is light
MODES = {  # a picture, and the RGB or grey that it stands for
    "grey": (Image.fromarray(GREY), GREY),
    "black and white": (Image.fromarray(GREY > 127), 255 * (GREY > 127)),
    "16 bits": (Image.fromarray(GREY.astype(np.uint16) * 256 + 77), GREY),
    "32 bits that hold 16": (Image.fromarray(GREY.astype(np.int32) * 256 + 77), GREY),
    "grey with alpha": (Image.merge("LA", [Image.fromarray(GREY)] * 2), ALPHA),
    "palette": (Image.fromarray(QUARTERS).quantize(4), QUARTERS),
    "CMYK": (Image.fromarray(QUARTERS).convert("CMYK"), QUARTERS),
}


@pytest.mark.parametrize(("picture", "expected"), MODES.values(), ids=MODES)
def test_modes_become_rgb(read, picture, expected):
    image = read(picture, "a.png" if picture.mode in ("1", "L", "LA", "P", "I;16") else "a.tif")
    expected = expected if expected.ndim == 3 else np.dstack([expected] * 3)
    np.testing.assert_allclose(image.astype(int), expected.transpose(2, 0, 1), atol=1)


def test_a_16_bit_colour_png(tmp_path):
    """Written by hand, since Pillow cannot."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in QUARTERS)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.png", (6, 8)), QUARTERS.transpose(2, 0, 1)
    )


def test_transparency_lies_on_white(read):
    alpha = np.zeros((6, 8), np.uint8)
    alpha[:3] = 255
    picture = Image.fromarray(np.dstack([QUARTERS, alpha]))
    assert corners(read(picture)) == [[255, 0, 0], [0, 255, 0], [255] * 3, [255] * 3]


def test_a_transparent_colour_of_a_palette(read):
    picture = Image.fromarray(QUARTERS).quantize(4)
    blue = picture.getpixel((0, 5))
    image = read(picture, transparency=blue)
    assert corners(image) == [[255, 0, 0], [0, 255, 0], [255] * 3, [255] * 3]


def test_a_transparent_colour_of_rgb(read):
    image = read(Image.fromarray(QUARTERS), transparency=(0, 0, 255))
    assert corners(image)[2] == [255] * 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_orientation(tmp_path, orientation, name):
    size = (64, 48)
    picture = Image.fromarray(QUARTERS).resize(size, Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / name, exif=exif, **({"quality": 95} if name == "a.jpg" else {}))
    with Image.open(tmp_path / name) as stored:
        upright = ImageOps.exif_transpose(stored).convert("RGB")
    image = read_image(tmp_path / name, (upright.height, upright.width))
    np.testing.assert_allclose(image.astype(int), np.asarray(upright).transpose(2, 0, 1), atol=2)


def test_broken_exif_data_is_no_reason(read, monkeypatch):
    def broken(image):
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", broken)
    np.testing.assert_array_equal(read(Image.fromarray(QUARTERS)), QUARTERS.transpose(2, 0, 1))


@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_fills_any_size(tmp_path_factory, width, height, size):
    path = tmp_path_factory.getbasetemp() / "plain.png"
    Image.new("RGB", (width, height), (10, 20, 30)).save(path)
    image = read_image(path, size)
    assert image.shape == (3, *size)
    assert (image == np.array([10, 20, 30])[:, None, None]).all()


def test_the_longer_sides_are_cut(read):
    """Red and blue ends left and right of a green square."""
    picture = np.zeros((20, 60, 3), np.uint8)
    picture[:, :20, 0] = picture[:, 20:40, 1] = picture[:, 40:, 2] = 255
    image = read(Image.fromarray(picture), size=10)
    assert image.shape == (3, 10, 10)
    np.testing.assert_array_equal(image[1, :, 1:-1], 255)
    image = read(Image.fromarray(picture.transpose(1, 0, 2)), size=10)
    np.testing.assert_array_equal(image[1, 1:-1], 255)


def test_scaling_averages(read):
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    image = read(Image.fromarray(board.astype(np.uint8)), size=8)
    np.testing.assert_allclose(image.astype(int), 127, atol=2)


def test_grey_on_request(read):
    image = read(Image.fromarray(QUARTERS), channels=1)
    assert image.shape == (1, 6, 8)
    assert [c[0] for c in corners(image)] == [76, 150, 29, 255]  # ITU-R 601


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
@pytest.mark.parametrize("progressive", [False, True])
def test_a_photo_of_12_megapixels_takes_little_memory(tmp_path, progressive):
    """36 MB, if it were decoded whole; a progressive one needs all of its coefficients."""
    Image.new("RGB", (4000, 3000), (200, 100, 50)).save(
        tmp_path / "a.jpg", quality=50, progressive=progressive
    )
    script = """
import sys, tinygrad_edge.data as data
def peak():
    words = open("/proc/self/status").read().split()
    return int(words[words.index("VmHWM:") + 1]) * 1024
data.read_image(sys.argv[1], 4)  # imports Pillow
before = peak()
assert data.read_image(sys.argv[2], 224).shape == (3, 224, 224)
print(peak() - before)
"""
    Image.new("RGB", (8, 8)).save(tmp_path / "small.jpg")
    command = [sys.executable, "-c", script, tmp_path / "small.jpg", tmp_path / "a.jpg"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(output) < (45e6 if progressive else 8e6)


def test_large_pictures_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(_photo, "_LARGE_PIXELS", 10)
    Image.fromarray(QUARTERS).save(tmp_path / "a.png")
    inside, most = [], []
    whole = _photo._fitted

    def watched(*arguments):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.01)  # for another to come in, if it could
        inside.pop()
        return whole(*arguments)

    monkeypatch.setattr(_photo, "_fitted", watched)
    threads = [threading.Thread(target=read_image, args=(tmp_path / "a.png", 6)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


# ---- what is not a picture


def saved(format):
    pixels, file = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


JPEG, PNG = saved("JPEG"), saved("PNG")
UNREADABLE = {
    "empty": (b"", "no picture of a kind that is read here"),
    "text": (b"holiday photos\n", "no picture of a kind that is read here"),
    "PostScript, which would be run": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "no pic",
    ),
    "half a JPEG": (JPEG[:2000], "truncated"),
    "half a PNG": (PNG[:2000], "truncated"),
    "a JPEG's beginning": (JPEG[:100], ""),
    "a PNG of zeros": (PNG[:60] + bytes(500), ""),
}


@pytest.mark.parametrize(("content", "match"), UNREADABLE.values(), ids=UNREADABLE)
def test_refuses(tmp_path, content, match):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(FileError, match=f"^cannot read {tmp_path}/a.jpg: .*{match}"):
        read_image(tmp_path / "a.jpg", 8)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileError, match="cannot read .*nothing.jpg: No such file or directory"):
        read_image(tmp_path / "nothing.jpg", 8)


def test_numbers_of_no_known_range(read):
    with pytest.raises(FileError, match="floating-point numbers, of no known range"):
        read(Image.fromarray(np.zeros((6, 8), np.float32)), "a.tif")
    with pytest.raises(FileError, match="32 bits, of no known range"):
        read(Image.fromarray(np.full((6, 8), 70_000, np.int32)), "a.tif")


def test_too_many_pixels(read, monkeypatch):
    """What counts is what decoding will hold: a JPEG is reduced, unless it is progressive."""
    monkeypatch.setattr("tinygrad_edge.data._photo._MOST_PIXELS", 8 * 6)
    large = Image.fromarray(QUARTERS).resize((64, 48))
    read(large, "a.jpg", size=3)
    with pytest.raises(FileError, match="64 x 48 pixels, too many to be decoded whole"):
        read(large, "a.png", size=3)
    with pytest.raises(FileError, match="64 x 48 pixels, too many"):
        read(large, "a.jpg", size=3, progressive=True)
    with pytest.raises(FileError, match="32 x 24 pixels, too many"):
        read(large, "a.jpg", size=12)


@given(
    place=st.integers(0, 2**32), value=st.integers(1, 255), kind=st.sampled_from(["JPEG", "PNG"])
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of odd files
def test_damage_ends_in_an_error_or_a_picture(tmp_path_factory, place, value, kind):
    content = bytearray({"JPEG": JPEG, "PNG": PNG}[kind])
    content[place % len(content)] ^= value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    try:
        assert read_image(path, 8).shape == (3, 8, 8)
    except FileError:
        pass


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((0,), "size is from 1 to 16384, not 0"),
        (((8, 2.5),), "size is an integer, not 2.5"),
        ((8, 2), "channels is 1 or 3, not 2"),
    ],
)
def test_refuses_arguments(tmp_path, arguments, match):
    with pytest.raises(DataError, match=match):
        read_image(tmp_path / "a.png", *arguments)


def test_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match="pictures need Pillow: pip install Pillow"):
        read_image(tmp_path / "a.png", 8)
