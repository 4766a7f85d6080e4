"""Procedural clips: exact motion, a context that gives nothing away, and the same item whatever the batch."""

import time

import pytest
import torch
import torch.nn.functional as F
from goembed_core.protocols import Observations
from goembed_video_datasets.clips import ClipTime
from goembed_video_datasets.config import SpritesConfig
from goembed_video_datasets.scenes import KINDS
from goembed_video_datasets.sprites import SpriteDataset
from pydantic import ValidationError
from torch.utils.data import DataLoader

EVERY = (*KINDS, "mixed")
each_kind = pytest.mark.parametrize("kind", EVERY)


def sprites(kind="left-right", **settings):
    return SpriteDataset(SpritesConfig(kind=kind, **{"textures": "noise"} | settings))


@pytest.fixture(scope="module")
def sets():
    return {kind: sprites(kind) for kind in EVERY}


@each_kind
def test_the_context_is_the_same_whichever_future_comes(kind):
    clips = sprites(kind, jitter_px=2.0)
    indices = torch.arange(200)
    start = torch.zeros(200, 1)
    seen = clips.observations(indices).values[:, :1]
    for mode in range(clips.num_modes):
        assert torch.equal(clips.frames(indices, torch.full((200,), mode), start), seen)
    targets = clips.futures(indices).target
    assert (targets[:, 0] - targets[:, 1]).abs().flatten(1).amax(1).min() > 0.2  # and the futures differ


@each_kind
def test_every_future_is_as_probable_as_the_others_and_cannot_be_told_from_the_context(sets, kind):
    clips, indices = sets[kind], torch.arange(1200)
    truth, probability = clips.truth(indices), clips.futures(indices[:300]).probability
    assert torch.allclose(probability.sum(1), torch.ones(300))
    frequency = F.one_hot(truth.mode, clips.num_modes).float()
    expected = probability.mean(0)
    assert (frequency.mean(0) - expected).abs().max() < (0.05)
    context = torch.cat(
        [F.avg_pool2d(clips.observations(part).values[:, 0], 4).flatten(1) for part in indices.split(500)]
    )
    known = torch.cat([context, F.avg_pool2d(truth.mask, 4).flatten(1), torch.ones(1200, 1)], 1).double()
    wanted = frequency.double() - frequency.mean(0)
    fitted = torch.linalg.lstsq(known[:800], wanted[:800]).solution
    error = (known[800:] @ fitted - wanted[800:]).square().mean()
    assert error > wanted[800:].square().mean()  # a fit does worse than no fit


@each_kind
@pytest.mark.parametrize(("jitter_px", "moments"), [(0.0, (0.0, 0.3)), (0.7, (1.0,))])
def test_frames_are_those_of_the_pixel_by_pixel_oracle(kind, jitter_px, moments, painting):
    clips = sprites(kind, size=16, step_px=2.6, jitter_px=jitter_px)
    indices = torch.tensor([0, 5, 9])
    drawn = clips._draw(indices)
    appearance = clips._appearance(drawn.random)
    mode = torch.arange(len(indices)) % 2
    signs = clips._signs_of(drawn, mode)
    found = clips.frames(indices, mode, torch.tensor([moments]).expand(len(indices), -1))
    for item in range(len(indices)):
        for view, moment in enumerate(moments):
            expected = painting.paint(drawn.scene, appearance, signs, moment, item)
            assert torch.allclose(found[item, view], expected, atol=2e-5)


@pytest.mark.parametrize("kind", ["left-right", "two"])
def test_what_moves_by_whole_pixels_is_found_again(kind):
    clips = sprites(kind, step_px=5.0)
    indices = torch.arange(100)
    values, truth = clips.observations(indices).values, clips.truth(indices)
    inner = -F.max_pool2d(-truth.mask, 3, 1, 1) > 0.5  # without the antialiased outline
    assert inner.flatten(1).sum(1).min() >= 6
    batch, _, y, x = inner.nonzero().unbind(1)
    flow = truth.flow[batch, :, y, x]
    assert set(flow[:, 0].unique().tolist()) == {-5.0, 5.0} and (flow[:, 1] == 0).all()
    assert torch.allclose(values[batch, 1, :, y, x + flow[:, 0].long()], values[batch, 0, :, y, x], atol=1e-5)
    assert (truth.flow * (1 - truth.mask) == 0).all()


@pytest.mark.parametrize("kind", ["left-right", "two", "occlusion"])
def test_jitter_is_how_much_steps_vary(kind):
    truth = sprites(kind, step_px=5.0, jitter_px=2.0).truth(torch.arange(300))
    steps = truth.flow[:, 0].flatten(1).abs().amax(1)
    assert 3 <= steps.min() < 4 and 6.8 < steps.max() < 7
    assert truth.flow[:, 1].abs().max() == 0


def test_the_bob_of_a_pendulum_goes_its_arc():
    clips = sprites("pendulum", step_px=5.0)
    indices = torch.arange(300)
    scene, truth = clips._draw(indices).scene, clips.truth(indices)
    middle = (scene.anchor[:, 0] + scene.arm[:, 0]).round().long()
    flow = truth.flow[indices, :, middle[:, 1], middle[:, 0]]
    assert (flow.norm(dim=1) - 5).abs().max() < 0.6  # the chord, of a pixel that is near the middle
    assert torch.equal(flow[:, 0] < 0, truth.mode == 1)  # clockwise: what hangs goes to the left
    distance = (torch.stack([middle[:, 0], middle[:, 1]], 1) - scene.anchor[:, 0]).norm(dim=1)
    after = (torch.stack([middle[:, 0], middle[:, 1]], 1) + flow - scene.anchor[:, 0]).norm(dim=1)
    assert torch.allclose(distance, after, atol=1e-4)
    assert (
        truth.mask[indices, 0, scene.anchor[:, 0, 1].round().long(), scene.anchor[:, 0, 0].round().long()] == 0
    ).all()


@each_kind
def test_objects_stay_within_the_frame(kind):
    clips = sprites(kind, jitter_px=2.0)
    futures, truth = clips.futures(torch.arange(200)), clips.truth(torch.arange(200))
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    ends = futures.flow + torch.stack([columns, rows])
    outside = ((ends < -0.5) | (ends > 31.5)) & (truth.mask > 0.5)[:, None]
    assert outside.sum() == 0
    assert truth.mask.flatten(1).sum(1).min() >= 10


def test_the_first_object_passes_in_front():
    clips = sprites("occlusion")
    indices = torch.arange(200)
    flow, truth = clips.futures(indices).flow, clips.truth(indices)
    assert torch.equal(flow[:, 0], -flow[:, 1])
    both = (flow[:, 0, 0] < 0).flatten(1).any(1) & (flow[:, 0, 0] > 0).flatten(1).any(1)
    assert both.float().mean() > 0.9  # where the one is not hidden altogether
    scene = clips._draw(indices).scene
    middle = scene.anchor[:, 0].round().long()
    assert (flow[indices, 0, 0, middle[:, 1], middle[:, 0]] == -6).all()
    assert torch.equal(truth.flow, flow[indices, truth.mode])


@each_kind
def test_what_came_is_among_the_futures(sets, kind):
    clips, indices = sets[kind], torch.tensor([3, 99, 3, 1234567])
    observed, truth, futures = clips.observations(indices), clips.truth(indices), clips.futures(indices)
    rows = torch.arange(4)
    assert torch.equal(futures.target[rows, truth.mode], observed.values[:, 1])
    assert torch.equal(futures.flow[rows, truth.mode], truth.flow)
    assert (futures.probability[rows, truth.mode] > 0).all()
    item = clips[99]
    assert torch.equal(item.values, observed.values[1]) and torch.equal(item.params.time, observed.params.time[1])
    assert torch.equal(item.flow, truth.flow[1]) and torch.equal(item.mask, truth.mask[1])
    assert item.mode == int(truth.mode[1])


def test_observations_hold_nothing_of_the_truth(sets):
    found = sets["left-right"].observations(torch.arange(2))
    assert type(found) is Observations and type(found.params) is ClipTime
    assert found.values.shape == (2, 3, 3, 32, 32) and found.values.dtype == torch.float32
    assert found.values.abs().max() <= 1 and found.params.time.shape == (2, 3)


@pytest.mark.parametrize("frames", [2, 3, 5])
def test_times(frames):
    found = sprites(frames=frames).observations(torch.arange(50)).params.time
    assert (found[:, 0] == 0).all() and (found[:, 1] == 1).all()
    for part in range(frames - 2):  # one in each part of the window
        between = found[:, 2 + part] * (frames - 2)
        assert (between >= part).all() and (between < part + 1).all() and len(between.unique()) > 40


@pytest.mark.parametrize("size", [17, 32])
def test_an_item_does_not_depend_on_its_batch(size):
    clips = sprites("mixed", size=size, step_px=4.0, jitter_px=0.5)
    indices = torch.cat([torch.arange(300), torch.tensor([2**21 - 1, 9_999_999])])
    whole, truth = clips.observations(indices), clips.truth(indices)
    for row in (0, 1, 50, 171, 299, 300, 301):
        alone = clips.observations(indices[row : row + 1])
        assert torch.equal(alone.values[0], whole.values[row])
        assert torch.equal(clips.truth(indices[row : row + 1]).flow[0], truth.flow[row])
    assert len(torch.unique(whole.values.flatten(1).mean(1))) == len(indices)


def test_splits_and_seeds_have_clips_of_their_own():
    sets = [sprites(), sprites(split="test"), sprites(seed=1)]
    firsts = [clips.observations(torch.arange(20)).values.flatten(1) for clips in sets]
    assert (torch.cdist(torch.cat(firsts), torch.cat(firsts)) + torch.eye(60) > 0.5).all()


def test_worker_processes_make_the_same_items(sets):
    clips = sprites("mixed", length=12)
    loader = DataLoader(clips, batch_size=4, num_workers=2, generator=torch.Generator())
    found = list(loader)
    assert torch.equal(torch.cat([batch.values for batch in found]), clips.observations(torch.arange(12)).values)
    assert torch.equal(torch.cat([batch.mode for batch in found]), clips.truth(torch.arange(12)).mode)


@pytest.mark.parametrize("index", [12, -13])
def test_items_out_of_range(index):
    clips = sprites(length=12)
    with pytest.raises(IndexError, match="of a set of 12"):
        clips[index]
    with pytest.raises(IndexError, match="of a set of 12"):
        clips.observations(torch.tensor([0, index]))


def test_settings_that_cannot_be():
    with pytest.raises(ValidationError, match=r"step_px \+ jitter_px is 12, and at most 9.6 keeps an object within"):
        SpritesConfig(step_px=11, jitter_px=1)
    with pytest.raises(ValidationError, match="jitter_px=3 is more than step_px=2: objects would turn back"):
        SpritesConfig(step_px=2, jitter_px=3)
    for bad in ({"kind": "circle"}, {"size": 8}, {"frames": 1}, {"step_px": float("nan")}, {"length": 0}):
        with pytest.raises(ValidationError):
            SpritesConfig(**bad)


@pytest.mark.slow
@each_kind
def test_a_busy_core_makes_two_thousand_clips_a_second(sets, kind):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        sets[kind].observations(torch.arange(512))
        start = time.process_time()
        for part in torch.arange(4096).split(512):
            sets[kind].observations(part)
        assert 4096 / (time.process_time() - start) > 2000
    finally:
        torch.set_num_threads(threads)
