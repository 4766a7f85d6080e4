"""The order of training images: complete, repeatable, and the same on any number of processes."""

import itertools

import pytest
import torch
from goembed_core.errors import UserError
from goembed_image_datasets.config import ImagesConfig
from goembed_image_datasets.images import ImageDataset
from goembed_image_datasets.sampler import ItemSampler, batches, batches_at, local_positions
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=50, deadline=None)
@given(
    num_items=st.integers(1, 40),
    seed=st.integers(0, 2**40),
    start=st.integers(0, 200),
    share=st.integers(1, 6),
    num_processes=st.sampled_from([1, 2, 4]),
)
def test_the_union_over_processes_is_the_global_batch(num_items, seed, start, share, num_processes):
    batch_size = share * 4
    shares = [local_positions(start, batch_size, process, num_processes) for process in range(num_processes)]
    assert list(itertools.chain(*shares)) == list(range(start, start + batch_size))
    assert {len(positions) for positions in shares} == {batch_size // num_processes}
    union = torch.cat([ItemSampler(num_items, seed).indices(torch.tensor(positions)) for positions in shares])
    assert torch.equal(union, ItemSampler(num_items, seed).indices(torch.arange(start, start + batch_size)))


@settings(max_examples=50, deadline=None)
@given(num_items=st.integers(1, 40), seed=st.integers(0, 2**40), epoch=st.integers(0, 30))
def test_every_item_once_an_epoch(num_items, seed, epoch):
    positions = torch.arange(epoch * num_items, (epoch + 1) * num_items)
    assert sorted(ItemSampler(num_items, seed).indices(positions).tolist()) == list(range(num_items))


def test_seeds_and_epochs_have_orders_of_their_own():
    orders = [
        tuple(ItemSampler(100, seed).indices(torch.arange(100) + 100 * epoch).tolist())
        for seed, epoch in itertools.product((0, 1), (0, 1))
    ]
    assert len(set(orders)) == 4


def test_the_order_is_that_of_earlier_versions():
    assert ItemSampler(6, seed=1).indices(torch.arange(8)).tolist() == [5, 3, 0, 4, 1, 2, 1, 3]


@pytest.fixture
def images(tmp_path, picture):
    for index in range(10):
        picture(index).save(tmp_path / f"{index}.png")
    return lambda **settings: ImageDataset(ImagesConfig(path=tmp_path, resolution=8, **settings))


def take(count, stream):
    return list(itertools.islice(stream, count))


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_batches_are_the_same_on_any_number_of_processes(images, num_processes):
    dataset = images()
    whole = take(4, batches(dataset, seed=3, start=0, batch_size=4))
    streams = [batches(dataset, 3, 0, 4, process, num_processes) for process in range(num_processes)]
    for expected in whole:
        shares = [next(stream) for stream in streams]
        for field in ("images", "labels", "positions"):
            assert torch.equal(torch.cat([getattr(share, field) for share in shares]), getattr(expected, field))
    order = ItemSampler(10, 3).indices(whole[2].positions)  # across the end of an epoch
    assert torch.equal(whole[2].images, dataset.gather(order))


def test_a_resumed_run_continues(images):
    dataset = images()
    whole = take(5, batches(dataset, seed=0, start=0, batch_size=4))
    resumed = take(2, batches(dataset, seed=0, start=12, batch_size=4))
    for expected, found in zip(whole[3:], resumed, strict=True):
        assert torch.equal(expected.images, found.images) and torch.equal(expected.positions, found.positions)


@pytest.mark.parametrize("settings", [{}, {"cache": "none", "workers": 1}])
def test_a_trainer_that_counts_for_itself(images, settings):
    workers = settings.pop("workers", 0)
    dataset = images(**settings)
    found = list(batches_at(dataset, 3, iter([range(4, 6), range(12, 14)]), workers))
    assert [batch.positions.tolist() for batch in found] == [[4, 5], [12, 13]]
    whole = take(4, batches(dataset, seed=3, start=0, batch_size=4))
    assert torch.equal(found[0].images, whole[1].images[:2]) and torch.equal(found[1].images, whole[3].images[:2])


def test_workers_give_the_same_batches_and_leave_torchs_numbers_alone(images):
    expected = take(4, batches(images(), seed=0, start=6, batch_size=4))
    state = torch.get_rng_state()
    found = take(4, batches(images(cache="none"), seed=0, start=6, batch_size=4, workers=2))
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(expected, found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_breaks_under_way_is_named(images, tmp_path, workers):
    dataset = images(cache="none")
    (tmp_path / "4.png").write_bytes(b"overwritten")
    with pytest.raises(UserError, match=r"^\S*4.png: is not an image"):
        take(3, batches(dataset, seed=0, start=0, batch_size=4, workers=workers))


def test_batches_that_cannot_be_shared(images):
    with pytest.raises(UserError, match="a batch of 6 images cannot be shared by 4 processes; give a batch size that"):
        batches(images(), seed=0, start=0, batch_size=6, num_processes=4)
    with pytest.raises(UserError, match="an order of 0 items"):
        ItemSampler(0, seed=0)
