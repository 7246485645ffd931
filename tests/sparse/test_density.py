import sys

from tinygrad_edge.sparse import Event, density_table, draw_densities

EVENTS = [
    Event(step, name, 0, 0, 1, share + step / 1000)
    for step in range(0, 1000, 10)
    for name, share in (("first.weight", 0.0), ("b", 0.005))
]


def test_table_has_a_row_for_each_layer_and_eight_steps_at_most():
    lines = density_table(EVENTS[::-1]).splitlines()  # in any order
    assert lines == [
        "layer             0    140    280    420    560    700    840    990",
        "b              0.50  14.50  28.50  42.50  56.50  70.50  84.50  99.50",
        "first.weight   0.00  14.00  28.00  42.00  56.00  70.00  84.00  99.00",
    ]
    assert density_table([]) == "layer"
    assert density_table([EVENTS[0], EVENTS[3]]).splitlines()[1:] == [
        "first.weight   0.00       ",
        "b                     1.50",
    ]


def test_picture_is_drawn_where_matplotlib_is(tmp_path, monkeypatch):
    assert draw_densities(tmp_path / "a.png", EVENTS)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert draw_densities(tmp_path / "none.png", [])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not draw_densities(tmp_path / "b.png", EVENTS)
    assert not (tmp_path / "b.png").exists()
