"""`goembed view` in a real browser: what is on its screen is the field, and follows the mouse."""

from __future__ import annotations

import io
import shutil
import socket
import time

import numpy as np
import pytest
import torch
import trimesh
from goembed_core.errors import UserError
from goembed_nerf_renderer.cameras import Camera, project
from goembed_nerf_renderer.config import RendererConfig, ViewConfig
from goembed_nerf_renderer.fields import SphereField
from goembed_nerf_renderer.renderer import VolumeRenderer
from goembed_nerf_renderer.viewer import Viewer
from goembed_nerf_renderer.viewing import Viewable, browser_camera
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which is in the group dev")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Software rendering, no sandbox (which needs rights that containers lack), and nothing that asks the network.
OPTIONS = (
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDTH, HEIGHT = 800, 480
RED, BLUE = [0.9, 0.1, 0.1], [0.1, 0.2, 0.9]


@pytest.fixture(scope="module")
def page():
    """A page of a headless Chromium, which keeps what its console says."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is on the PATH")
    with playwright.sync_playwright() as manager:
        browser = manager.chromium.launch(executable_path=program, args=list(OPTIONS))
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(120_000)  # a busy machine without a GPU takes its time for a frame
        page.said = []
        page.on("console", lambda message: page.said.append((message.type, message.text)))
        page.on("pageerror", lambda error: page.said.append(("error", str(error))))
        yield page
        browser.close()


@pytest.fixture
def viewer(new_cameras):
    """Two balls in one field, one ball in another; with photographs and a mesh."""
    pytest.importorskip("viser", reason="needs viser, of the extra view")
    views = Camera(*(leaf[0] for leaf in new_cameras(1, 5, dtype=torch.float32)))
    renderer = VolumeRenderer(RendererConfig(near=1.0, far=8.0, samples=24, proposal_samples=(48,), background="white"))
    two = torch.ones(1, 2)
    both = SphereField(
        torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, -0.8]]]), two / 3, 60 * two, torch.tensor([[RED, BLUE]]), two / 10
    )
    one = SphereField(*(leaf[:, 1:] for leaf in both))
    photographs = torch.rand(5, 3, 12, 16, generator=torch.Generator().manual_seed(0))

    def mesh():
        found = trimesh.creation.icosphere(radius=0.4)
        found.visual = trimesh.visual.ColorVisuals(found, vertex_colors=[0, 200, 0, 255])
        return found

    def no_mesh():
        raise UserError("no cell stops any light")

    shared = (renderer, views, (16, 12), torch.zeros(3), photographs)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = ViewConfig(run=".", port=port, moving_px=24, still_px=60)
    viewer = Viewer([Viewable("both", both, *shared, mesh), Viewable("one", one, *shared, no_mesh)], config)
    yield viewer
    viewer.close()


def screen(page):
    """What is to be seen, in [0, 1]."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")) / 255


def until(page, condition, what):
    """Wait, the browser going on."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, f"never seen: {what}"
        page.wait_for_timeout(300)


def tick(page, name):
    page.get_by_role("checkbox", name=name, exact=True).click()


def place(viewer, point):
    """Where a point of the world is on the screen of the one browser, as (row, column)."""
    import viser.transforms

    (client,) = viewer.server.get_clients().values()
    seen = client.camera
    rotation = torch.tensor(viser.transforms.SO3(seen.wxyz).as_matrix(), dtype=torch.float32)
    position = torch.tensor(seen.position / viewer.scale, dtype=torch.float32)
    camera = browser_camera(rotation, position, seen.fov, HEIGHT, WIDTH)
    pixels, _ = project(Camera(*(leaf[None, None] for leaf in camera)), torch.tensor([[point]]))
    column, row = pixels[0, 0, 0].tolist()
    return int(row), int(column)


def near(page, viewer, point, colour, tolerance=0.25):
    row, column = place(viewer, point)
    return abs(screen(page)[row, column] - colour).max() < tolerance


def test_the_browser_shows_the_field(page, viewer):
    page.goto(viewer.address)
    page.wait_for_selector("canvas")
    until(page, viewer.server.get_clients, "a browser")
    assert viewer.nodes() == [f"/cameras/{n}" for n in range(5)]
    red, blue = (0.0, 0.0, 0.0), (0.0, 0.0, -0.8)
    until(page, lambda: near(page, viewer, red, RED) and near(page, viewer, blue, BLUE), "two balls where they are")
    assert screen(page).std() > 0.05

    before = place(viewer, blue)
    page.mouse.move(200, 300)
    page.mouse.down()
    page.mouse.move(300, 330, steps=4)
    page.mouse.up()
    until(page, lambda: np.abs(np.subtract(place(viewer, blue), before)).max() > 15, "a camera that moved")
    until(page, lambda: near(page, viewer, red, RED), "the ball from there")

    tick(page, "live view")
    until(page, lambda: not near(page, viewer, red, RED), "nothing, without the live view")
    tick(page, "points")
    until(page, lambda: "/points" in viewer.nodes(), "points")
    until(page, lambda: near(page, viewer, red, RED), "the ball as points")
    tick(page, "mesh")
    until(page, lambda: "/mesh" in viewer.nodes(), "a mesh")
    until(page, lambda: screen(page)[place(viewer, red)].argmax() == 1, "a green mesh, before the points")
    assert len(viewer.nodes()) == 7
    assert all(
        page.get_by_label(f"Edit props for /{name}", exact=True).count() for name in ("cameras", "points", "mesh")
    )

    tick(page, "cameras")
    until(page, lambda: len(viewer.nodes()) == 2, "no cameras")
    viewer._choose("one")  # as its list does
    until(page, lambda: viewer.nodes() == ["/points"], "the other field, which has no mesh")
    until(page, lambda: page.get_by_text("no mesh: no cell stops any light").count() == 1, "why there is no mesh")
    tick(page, "live view")
    until(page, lambda: not near(page, viewer, red, RED, 0.5), "one ball is gone")
    assert [text for kind, text in page.said if kind == "error"] == []
