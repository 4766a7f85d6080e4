"""Motion as files and colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_motion.flow import flow_colours, read_flo, write_flo


def test_flo_is_middleburys_format(tmp_path):
    flow = torch.arange(12.0).reshape(2, 2, 3)
    write_flo(tmp_path / "a.flo", flow)
    data = (tmp_path / "a.flo").read_bytes()
    assert data[:4] == b"PIEH" and np.frombuffer(data[4:12], "<i4").tolist() == [3, 2]  # width, height
    assert np.frombuffer(data[12:], "<f4")[:4].tolist() == [0.0, 6.0, 1.0, 7.0]  # x, y of each pixel in turn
    assert torch.equal(read_flo(tmp_path / "a.flo"), flow)


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: b"XXXX" + d[4:], lambda d: d + b"0", lambda d: d[:8]])
def test_damaged_fields_are_named(tmp_path, damage):
    path = tmp_path / "a.flo"
    write_flo(path, torch.zeros(2, 2, 3))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"a\.flo"):
        read_flo(path)


def test_a_header_that_promises_gigabytes_is_refused(tmp_path):
    path = tmp_path / "a.flo"
    write_flo(path, torch.zeros(2, 2, 3))
    path.write_bytes(path.read_bytes()[:4] + np.array([2**30, 2**30], "<i4").tobytes())
    with pytest.raises(UserError, match=r"it is damaged"):
        read_flo(path)


def test_no_motion_is_white_right_is_red_and_slow_is_pale():
    flow = torch.tensor([[0.0, 8.0, 4.0, 100.0], [0.0, 0.0, 0.0, 0.0]])[:, None]
    white, red, pale, far = flow_colours(flow, largest_px=8.0)[:, 0].T
    assert white.tolist() == [1, 1, 1] and red.tolist() == [1, -1, -1]
    assert pale.tolist() == [1, 0, 0] and torch.equal(far, red)


def test_opposite_directions_look_different_and_hue_is_continuous():
    angle = torch.linspace(0, 2 * torch.pi, 721)
    colours = flow_colours(torch.stack([angle.cos(), angle.sin()])[:, None], 1.0)[:, 0].T
    assert (colours[0] - colours[-1]).abs().max() < 0.02 and (colours[1:] - colours[:-1]).abs().max() < 0.08
    assert (colours[:361] - colours[360:]).abs().amax(1).min() > 0.5
