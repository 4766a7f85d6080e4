"""`goembed view`: radiance fields and cameras in the browser, rendered from where one looks; by viser."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

import numpy as np
import torch
from goembed_core.config import run_task, told_what_is_missing
from goembed_core.errors import UserError
from goembed_core.plugins import host as plugin_host
from goembed_core.report.figures import to_uint8
from goembed_core.runs import Run
from torch import Tensor

from goembed_nerf_renderer.cameras import resize_camera
from goembed_nerf_renderer.config import ViewConfig
from goembed_nerf_renderer.viewing import Viewable, browser_camera, cloud, look

try:
    import viser
except ImportError:
    viser = None

DISTANCE = 3.0  # of the cameras from the middle, in the browser, whatever the units of the world are
BEHIND, ASIDE_RAD = 1.3, 0.2  # of the first camera, where the browser's begins: times as far, and turned
STILL_S = 0.25  # without a move before a view is rendered in full
PHOTOGRAPH_PX = 128  # the longest side within a frustum
MAX_FRUSTA = 100
FARTHEST = 150.0  # that a depth can be told of to the browser
CLOUD_OPACITY = 0.5
SHOWN = ("live view", "cameras", "points", "mesh")


def view(config: ViewConfig) -> int:
    """The command: serve until it is interrupted."""
    viewables = find_viewables(config)
    viewer = Viewer(viewables, config)
    print(f"{', '.join(v.name for v in viewables)}: open {viewer.address} (Ctrl-C ends it)", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return 0
    finally:
        viewer.close()


def find_viewables(config: ViewConfig) -> list[Viewable]:
    """The fields of a run, by its task's own function.

    **Raises:** UserError without viser, for a port that is taken, and for a run whose task shows nothing.
    """
    if viser is None:
        raise UserError("goembed view needs viser: uv pip install 'goembed-nerf-renderer[view]'")
    _require_port(config.host, config.port)
    with told_what_is_missing(config.run):
        task = run_task(config.run).rpartition(":")[2]
        known = plugin_host().names("viewable")
        if task not in known:
            raise UserError(f"{config.run}: task {task!r} has no fields to view; tasks that do: {', '.join(known)}")
        return plugin_host().get("viewable", task).load()(Run.open(config.run))


class Viewer:
    """A server that shows one of several fields, and renders it for each browser from where that looks."""

    def __init__(self, viewables: list[Viewable], config: ViewConfig):
        self.config = config
        self.viewables = {viewable.name: viewable for viewable in viewables}
        self.shown = viewables[0]
        self.changes = 0  # how often another field was chosen, or what is shown of it
        self._rendering = threading.Lock()
        self._building = threading.RLock()
        self._closed = threading.Event()
        self._moves: dict[int, threading.Event] = {}
        os.environ.pop("_VISER_PORT_OVERRIDE", None)  # viser's own; the setting counts
        self.server = viser.ViserServer(host=config.host, port=config.port, verbose=False)
        self.address = f"http://{config.host}:{self.server.get_port()}"
        self._make_controls()
        self._build()
        self.server.on_client_connect(self._follow)
        self.server.on_client_disconnect(self._forget)

    @property
    def scale(self) -> float:
        """Lengths in the browser by those of the world."""
        return DISTANCE / max(self.shown.distance, 1e-9)

    def nodes(self) -> list[str]:
        """The names of what is in the scene, besides the live view."""
        return [handle.name for handles in self._nodes.values() for handle in handles]

    def close(self) -> None:
        """Stop serving."""
        self._closed.set()
        for moved in list(self._moves.values()):
            moved.set()
        self.server.stop()

    def _make_controls(self) -> None:
        gui = self.server.gui
        self._nodes: dict[str, list] = {}
        self._status = gui.add_markdown("")
        if len(self.viewables) > 1:
            choice = gui.add_dropdown("field", tuple(self.viewables), initial_value=self.shown.name)
            choice.on_update(lambda _: self._choose(choice.value))
        self._boxes = {}
        for name in SHOWN:
            if name != "mesh" or any(viewable.mesh for viewable in self.viewables.values()):
                self._boxes[name] = gui.add_checkbox(name, name.split()[0] in self.config.show)
                self._boxes[name].on_update(lambda _, name=name: self._toggle(name))

    def _choose(self, name: str) -> None:
        with self._building:
            self.shown = self.viewables[name]
            self._build()

    def _toggle(self, name: str) -> None:
        with self._building:
            if name == "live view":
                if not self._boxes[name].value:
                    for client in self.server.get_clients().values():
                        client.scene.set_background_image(None)
                self._changed()
            else:
                self._show(name)

    def _build(self) -> None:
        """Everything anew, for the field that is shown."""
        for name in list(self._nodes):
            self._clear(name)
        shown, camera = self.shown, self.server.initial_camera
        self.server.scene.set_up_direction(_array(shown.up))
        camera.up = _array(shown.up)
        eye, centre = _array(shown.views.camera_to_world[0, :3, 3]), _array(shown.centre)
        aside = viser.transforms.SO3.exp(ASIDE_RAD * _array(shown.up))  # or its frustum would stand before the field
        camera.position = self.scale * (centre + BEHIND * aside.apply(eye - centre))
        camera.look_at = self.scale * centre
        camera.fov = float(2 * np.arctan(0.5 * shown.size[1] / shown.views.intrinsics[0, 1, 1].item()))
        for name in self._boxes:
            if name != "live view":
                self._show(name)
        self._changed()

    def _changed(self) -> None:
        """What was rendered is no longer what is to be seen."""
        self.changes += 1
        for moved in list(self._moves.values()):
            moved.set()

    def _clear(self, name: str) -> None:
        for handle in self._nodes.pop(name, ()):
            handle.remove()

    def _show(self, name: str) -> None:
        """Put the cameras, the points or the mesh into the scene, or take them out of it."""
        self._clear(name)
        if not self._boxes[name].value:
            return
        add: dict[str, Callable[[], list]] = {
            "cameras": self._add_cameras, "points": self._add_points, "mesh": self._add_mesh
        }  # fmt: skip
        self._status.content = f"making {name} …"
        try:
            with self._rendering:
                self._nodes[name] = add[name]()
            self._status.content = ""
        except UserError as error:  # told where one looks: the server goes on
            self._status.content = f"no {name}: {error}"

    def _add_cameras(self) -> list:
        shown = self.shown
        count, (width, height) = len(shown.views.intrinsics), shown.size
        eyes = self.scale * _array(shown.views.camera_to_world[:, :3, 3])
        rows = np.unique(np.linspace(0, count - 1, min(count, MAX_FRUSTA)).round().astype(int))
        handles = []
        for row in rows:
            others = np.delete(eyes, row, 0)
            gap = np.linalg.norm(others - eyes[row], axis=1).min() if len(others) else 1.0
            pose = shown.views.camera_to_world[row]
            focal = shown.views.intrinsics[row, 1, 1].item()
            size = float(np.clip(0.7 * gap, 0.05, 0.25))
            handles.append(
                self.server.scene.add_camera_frustum(
                    f"/cameras/{row}",
                    fov=float(2 * np.arctan(0.5 * height / focal)),
                    aspect=width / height,
                    scale=size,
                    thickness=0.02 * size,
                    image=None if shown.images is None else _thumbnail(shown.images[row]),
                    wxyz=viser.transforms.SO3.from_matrix(_array(pose[:3, :3])).wxyz,
                    position=eyes[row],
                )
            )
        return handles

    def _add_points(self) -> list:
        shown, (width, height) = self.shown, self.shown.size
        part = min(1.0, PHOTOGRAPH_PX / max(width, height))
        small_width, small_height = max(1, round(part * width)), max(1, round(part * height))
        views = resize_camera(shown.views, small_width / width, small_height / height)
        found = cloud(shown.renderer, shown.signal, views, small_height, small_width, CLOUD_OPACITY)
        points = self.scale * _array(found.points)
        colours = (255 * _array(found.colours)).round().astype(np.uint8)
        size = 0.5 * DISTANCE / max(small_width, small_height)
        return [self.server.scene.add_point_cloud("/points", points, colours, point_size=size, precision="float32")]

    def _add_mesh(self) -> list:
        if self.shown.mesh is None:
            raise UserError(f"{self.shown.name} has none")
        return [self.server.scene.add_mesh_trimesh("/mesh", self.shown.mesh(), scale=self.scale)]

    def _follow(self, client: viser.ClientHandle) -> None:
        """Render for one browser until it is gone: coarsely while it moves, then in full."""
        moved = self._moves[client.client_id] = threading.Event()
        client.camera.on_update(lambda _: moved.set())
        moved.set()

        def gone() -> bool:
            return self._closed.is_set() or client.client_id not in self._moves

        while True:
            moved.wait()
            if gone():
                return
            moved.clear()
            if self._boxes["live view"].value:
                self._render(client, self.config.moving_px, gone)
                if not moved.wait(STILL_S):
                    self._render(client, self.config.still_px, lambda: moved.is_set() or gone())

    def _forget(self, client: viser.ClientHandle) -> None:
        moved = self._moves.pop(client.client_id, None)
        if moved is not None:
            moved.set()

    def _render(self, client: viser.ClientHandle, height: int, unwanted: Callable[[], bool]) -> None:
        """Show what a browser's camera sees, behind the scene's nodes and before them where it is nearer."""
        shown, scale, seen_from, device = self.shown, self.scale, client.camera, self.shown.centre.device
        width = max(1, round(height * seen_from.aspect))
        rotation = viser.transforms.SO3(seen_from.wxyz).as_matrix()
        position = torch.tensor(seen_from.position / scale, dtype=torch.float32, device=device)
        camera = browser_camera(
            torch.tensor(rotation, dtype=torch.float32, device=device), position, seen_from.fov, height, width
        )
        with self._rendering:
            began = time.perf_counter()
            picture = look(shown, camera, height, width, unwanted)
        if picture is None or shown is not self.shown or not self._boxes["live view"].value:
            return
        colour = (255 * picture.colour).round().byte().numpy()
        depth = (scale * picture.depth).clamp(max=FARTHEST).numpy()
        client.scene.set_background_image(colour, format="jpeg", jpeg_quality=90, depth=depth)
        self._status.content = f"{shown.name}: {width} x {height} in {time.perf_counter() - began:.2g} s"


def _require_port(address: str, port: int) -> None:
    """Refuse an address that cannot be listened at, which viser would try for ever."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        raise UserError(
            f"host={address} port={port} cannot be listened at: {error.strerror or error}; give another port or host"
        ) from None


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _thumbnail(image: Tensor) -> np.ndarray:
    """A photograph in [0, 1], `(3, H, W)`, made small, as bytes `(h, w, 3)`."""
    factor = min(1.0, PHOTOGRAPH_PX / max(image.shape[1:]))
    size = [max(1, round(side * factor)) for side in image.shape[1:]]
    small = torch.nn.functional.interpolate(image[None].float(), size=size, mode="bilinear", antialias=True)[0]
    return to_uint8(2 * small - 1)
