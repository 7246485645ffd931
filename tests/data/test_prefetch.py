import gc
import threading
import weakref

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinygrad_edge.data import Dataset, Noise, _batches, batches
from tinygrad_edge.data._prefetch import prefetched
from tinygrad_edge.errors import DataError

IMAGES = np.arange(40, dtype=np.float32).reshape(20, 2, 1, 1)
SPLIT = Dataset.from_arrays("mine", (IMAGES, np.arange(20)), (IMAGES, np.arange(20))).train


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads() == []


@given(count=st.integers(0, 20), ahead=st.integers(1, 25))
def test_gives_all_items_in_order(count, ahead):
    assert list(prefetched(iter(range(count)), ahead)) == list(range(count))


@pytest.mark.parametrize("ahead", [1, 3])
def test_works_ahead_so_far_and_no_further(ahead):
    begun = threading.Semaphore(0)
    count = []

    def items():
        for i in range(20):
            count.append(i)
            begun.release()
            yield i

    stream = prefetched(items(), ahead)
    for i in range(5):
        assert next(stream) == i
        for _ in range(1 if i else 1 + ahead):  # what may be made is begun, unasked
            assert begun.acquire(timeout=10)
    stream.close()
    assert len(count) == 5 + ahead


def test_an_exception_comes_where_its_item_would_have():
    def items():
        yield 1
        yield 2
        raise DataError("the third is broken")

    stream = prefetched(items(), 5)
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(DataError, match="the third is broken") as caught:
        next(stream)
    assert caught.traceback[-1].name == "items"  # where it happened, not where it was told
    assert list(stream) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_loop_ends_the_thread(error):
    def loop():
        for i in prefetched(iter(range(100)), 2):
            if i == 3:
                raise error("stop")

    with pytest.raises(error, match="stop"):
        loop()
    gc.collect()
    assert threads() == []


def test_closing_waits_for_the_thread():
    stream = prefetched(iter(range(100)), 2)
    assert next(stream) == 0
    assert len(threads()) == 1
    stream.close()
    assert threads() == []
    assert list(stream) == []


def test_dropping_it_ends_the_thread():
    stream = prefetched(iter(range(100)), 2)
    next(stream)
    del stream
    gc.collect()
    assert threads() == []


def test_an_iterator_that_nobody_asks_starts_no_thread():
    prefetched(iter(range(100)), 2)
    assert threads() == []


@pytest.fixture(params=[1 << 23, 0], ids=["whole", "as stored"])
def ahead_of(request, monkeypatch):
    """Make batches ahead whole, or as large ones are: as they are stored."""
    monkeypatch.setattr(_batches, "WHOLE_BYTES", request.param)
    return "prefetch" if request.param else threading.current_thread().name


@pytest.mark.usefixtures("ahead_of")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.integers(1, 25), prefetch=st.integers(1, 4), shuffle=st.booleans())
def test_batches_are_the_same(batch, prefetch, shuffle):
    arguments = {"batch": batch, "seed": 3, "shuffle": shuffle, "augment": (Noise(),)}
    plain = list(batches(SPLIT, **arguments))
    ahead = list(batches(SPLIT, prefetch=prefetch, **arguments))
    assert len(plain) == len(ahead)
    for (x, y), (x_ahead, y_ahead) in zip(plain, ahead, strict=True):
        np.testing.assert_array_equal(x, x_ahead)
        np.testing.assert_array_equal(y, y_ahead)


def test_a_large_batch_is_augmented_when_its_turn_comes(ahead_of):
    names = set()

    def note(image, draws):
        names.add(threading.current_thread().name)
        return image

    assert len(list(batches(SPLIT, 4, augment=(note,), prefetch=2))) == 5
    assert names == {ahead_of}


def test_a_batch_is_not_held_once_it_is_handed_over(ahead_of):
    stream = batches(SPLIT, 4, prefetch=1)
    for images, _ in stream:
        held = weakref.ref(images)
        del images
        assert held() is None


def test_leaving_a_loop_over_batches_ends_the_thread(ahead_of):
    stream = batches(SPLIT, 4, prefetch=1)
    next(stream)
    assert len(threads()) == 1
    stream.close()
    assert threads() == []


@pytest.mark.usefixtures("ahead_of")
def test_what_a_data_set_raises_is_told():
    class Broken:
        shape, dtype = IMAGES.shape, IMAGES.dtype

        def __getitem__(self, rows):
            raise DataError("row 3 is gone")

    split = SPLIT.__class__(Broken(), SPLIT.labels, SPLIT.normalisation)
    with pytest.raises(DataError, match="row 3 is gone"):
        list(batches(split, 4, prefetch=2))
