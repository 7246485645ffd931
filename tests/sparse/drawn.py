"""Drawn networks of sparse weights, and dense copies of them to judge by."""

import math

import numpy as np
from hypothesis import strategies as st

from tinygrad_edge.ops.sparse import SEGMENT, segments_of
from tinygrad_edge.sparse.pool import Pool, Topology

#: One weight; nothing at all; more columns than 16 bits can number, and in full segments.
SHAPES = ((1, 1, 1, 1), (4, 3, 3, 3), (5, 7), (2, 70_000), (1, 2, 65_536, 1), (3, 0), (6, 2, 1, 2))


class Net:
    """Layers in a pool, with an array that goes along; everything is kept dense beside it."""

    def __init__(self, masks, spare, rng):
        self.masks = {f"layer{i}": mask for i, mask in enumerate(masks)}
        lengths, columns = [0], [np.zeros(spare, int)]
        for mask in masks:
            for row in mask.reshape(len(mask), math.prod(mask.shape[1:])):
                for start in range(0, segments_of(mask.shape) * SEGMENT, SEGMENT):
                    columns.insert(-1, np.flatnonzero(row[start : start + SEGMENT]))
                    lengths.append(len(columns[-2]))
        topology = Topology(
            np.cumsum(lengths).astype(np.int32), np.concatenate(columns).astype(np.uint16)
        )
        values = np.zeros(topology.columns.shape, np.float32)
        values[: topology.rows[-1]] = rng.uniform(1, 2, topology.rows[-1])  # a value is never 0
        shapes = {name: mask.shape for name, mask in self.masks.items()}
        self.pool = Pool(shapes, topology, lambda: values)
        self.along = values * 3
        self.dense = {}
        for name, layer in self.pool.layers.items():
            self.dense[name] = np.zeros(layer.shape, np.float32)
            self.dense[name][self.masks[name]] = values[layer.part]

    def take(self, move):
        """Make a move."""
        self.along = move.carry(self.along)
        self.pool.values.assign(move.carry(self.pool.values.numpy()))
        self.pool.rows.assign(move.topology.rows)
        self.pool.columns.assign(move.topology.columns)

    def check(self):
        """The pool is in order, and says what the dense copies say."""
        rows, columns = self.pool.rows.numpy(), self.pool.columns.numpy()
        values = self.pool.values.numpy()
        assert rows[0] == 0 and (np.diff(rows) >= 0).all() and rows[-1] <= len(columns)
        assert not columns[rows[-1] :].any()
        assert not values[rows[-1] :].any()
        np.testing.assert_array_equal(self.along, values * 3)
        first = 0
        for name, mask in self.masks.items():
            width, segments = math.prod(mask.shape[1:]), segments_of(mask.shape)
            there = np.zeros((len(mask), width), bool)
            dense = np.zeros((len(mask), width), np.float32)
            for i in range(len(mask) * segments):
                start, end = rows[first + i : first + i + 2]
                within = columns[start:end].astype(int) + i % segments * SEGMENT
                assert (np.diff(within) > 0).all()
                assert not len(within) or within[-1] < width
                there[i // segments, within] = True
                dense[i // segments, within] = values[start:end]
            first += len(mask) * segments
            np.testing.assert_array_equal(there.reshape(mask.shape), mask)
            np.testing.assert_array_equal(dense.reshape(mask.shape), self.dense[name])
        assert first == len(rows) - 1


@st.composite
def nets(draw, shapes=SHAPES):
    """Some layers, of which any may be empty or dense, and have empty rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    masks = []
    for shape in draw(st.lists(st.sampled_from(shapes), min_size=1, max_size=4)):
        mask = rng.random(shape) < draw(st.sampled_from((0.0, 0.01, 0.2, 0.9, 1.0)))
        if draw(st.booleans()):
            mask[draw(st.integers(0, len(mask) - 1))] = False
        masks.append(mask)
    return Net(masks, draw(st.integers(0, 9)), rng)
