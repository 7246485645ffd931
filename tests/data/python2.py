"""A batch file of CIFAR-10 as its publisher's Python 2 wrote it, instruction by instruction."""

import struct


class Pickle:
    """Writes protocol 2 the way cPickle did: every container and string is remembered."""

    def __init__(self):
        self.code = bytearray(b"\x80\x02")
        self.remembered = 0

    def remember(self):
        self.remembered += 1
        if self.remembered < 256:
            self.code += b"q" + bytes([self.remembered])
        else:
            self.code += b"r" + struct.pack("<I", self.remembered)

    def string(self, value, remember=True):
        if len(value) < 256:
            self.code += b"U" + bytes([len(value)]) + value
        else:
            self.code += b"T" + struct.pack("<i", len(value)) + value
        if remember:
            self.remember()

    def integer(self, value):
        if 0 <= value < 256:
            self.code += b"K" + bytes([value])
        elif 0 <= value < 65536:
            self.code += b"M" + struct.pack("<H", value)
        else:
            self.code += b"J" + struct.pack("<i", value)

    def name(self, module, name):
        self.code += b"c" + module.encode() + b"\n" + name.encode() + b"\n"
        self.remember()

    def tuple(self, count):
        self.code += {1: b"\x85", 2: b"\x86", 3: b"\x87"}[count]
        self.remember()

    def list(self, items, write):
        self.code += b"]"
        self.remember()
        for start in range(0, len(items), 1000):
            self.code += b"("
            for item in items[start : start + 1000]:
                write(item)
            self.code += b"e"

    def array(self, rows, columns, content):
        self.name("numpy.core.multiarray", "_reconstruct")
        self.name("numpy", "ndarray")
        self.integer(0)
        self.tuple(1)
        self.string(b"b")
        self.tuple(3)
        self.code += b"R"
        self.remember()
        self.code += b"("
        self.integer(1)
        self.integer(rows)
        self.integer(columns)
        self.tuple(2)
        self.name("numpy", "dtype")
        self.string(b"u1")
        self.integer(0)
        self.integer(1)
        self.tuple(3)
        self.code += b"R"
        self.remember()
        self.code += b"("
        self.integer(3)
        self.string(b"|")
        self.code += b"NNN"
        self.integer(-1)
        self.integer(-1)
        self.integer(0)
        self.code += b"t"
        self.remember()
        self.code += b"b\x89"
        self.string(content, remember=False)
        self.code += b"t"
        self.remember()
        self.code += b"b"


def batch_file(images, labels):
    """The bytes of a batch of uint8 images (N, 3, 32, 32)."""
    pickle = Pickle()
    pickle.code += b"}"
    pickle.remember()
    pickle.code += b"("
    pickle.string(b"batch_label")
    pickle.string(b"training batch 1 of 5")
    pickle.string(b"labels")
    pickle.list(labels, pickle.integer)
    pickle.string(b"data")
    pickle.array(len(images), 3072, images.tobytes())
    pickle.string(b"filenames")
    pickle.list([b"leptodactylus_%06d.png" % i for i in range(len(images))], pickle.string)
    pickle.code += b"u."
    return bytes(pickle.code)
