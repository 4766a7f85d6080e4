"""`task=fit_scene`: fit a radiance field to the views of one scene, judge it by others, and export it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from goembed_core.errors import UserError
from goembed_core.metrics.lpips import LPIPS
from goembed_core.metrics.results import Results
from goembed_core.processes import process_state
from goembed_core.randomness import ItemRandom
from goembed_core.report import run_report
from goembed_core.runs import Run
from goembed_core.trainer import Phase, Plan, Player, Terms, Trainer
from goembed_nerf_renderer.losses import distortion_loss

from goembed_fit_scene import model as models
from goembed_fit_scene.config import FitSceneConfig, SampleConfig, rival_dir, rivals
from goembed_fit_scene.evaluation import Evaluation, evaluate
from goembed_fit_scene.model import propose
from goembed_fit_scene.pictures import compare, compose
from goembed_fit_scene.sampling import sample
from goembed_fit_scene.scene import Drawn, Scene, find_place, load_scene, pixel_table, placed_field, placed_renderer


class FitScene:
    """Fit a radiance field to the posed images of one scene, through the renderer; and others, to compare with.

    **Arguments:**
    - `scene`: its views, where they are at hand; read from the dataset if not given.
    """

    def __init__(self, config: FitSceneConfig, scene: Scene | None = None):
        self.config = config
        self.scene = scene or load_scene(config)
        self.against = {name: FitScene(other, self.scene) for name, other in rivals(config).items()}
        place = find_place(config, self.scene)
        self.field_section = placed_field(config, place)
        self.renderer_section = placed_renderer(config, place, self.scene)
        self.pixels = pixel_table(self.scene, self.renderer_section.settings)
        self.lpips = LPIPS() if config.evaluate.lpips else None  # missing weights are told of now
        torch.manual_seed(config.train.seed)  # initial weights
        self.field, self.renderer = self.field_section.build(like=models.SceneField), self.renderer_section.build()

    def train(self, run: Run) -> None:
        """Fit the field to rays of all views, then the others, each in a run of its own."""
        self._fit(run)
        state = process_state()
        for name, fit in self.against.items():
            if state.is_main_process:
                print(f"against {name}:")
            with state.main_process_first():
                own = Run.start(fit.config, state.is_main_process)
            fit.train(own)

    def evaluate(self, run: Run) -> Results:
        """Judge the run's model by views that were held out, and write turntable and report."""
        others = {name: fit._judge(Run.open(rival_dir(run.dir, name)), {}) for name, fit in self.against.items()}
        return self._judge(run, others).results

    @staticmethod
    def sample(run: Run | None, config: SampleConfig) -> Path:
        """Write a turntable of a run's field, and what is exported of it."""
        if run is None:
            raise UserError("task=fit_scene carries no model: give the folder of a run")
        return sample(run, config)

    def _fit(self, run: Run) -> None:
        """Train one field; the run's model directory appears at the end."""
        plan = Plan(
            modules={"field": self.field},
            players={"field": Player(self.field, self.config.optimizer)},
            phases=[Phase("field", "field", self._losses)],
            prepare=self._draw,
        )
        trainer = Trainer(run, self.config.train, plan)
        self.pixels = self.pixels.to(trainer.device)
        self.renderer.to(trainer.device)
        trainer.train()
        if trainer.accelerator.is_main_process:
            facts = {
                "task": "fit_scene",
                "images_seen": trainer.images_seen,
                "seconds": trainer.seconds,
                "size": [int(side) for side in self.pixels.size.tolist()],
                "camera_to_world": self.scene.train.camera.camera_to_world.flatten(1).tolist(),
                "intrinsics": self.scene.train.camera.intrinsics.flatten(1).tolist(),
            }
            models.save(run.model, self.field_section, self.renderer_section, self.field, facts)

    def _draw(self, _: None, random: ItemRandom) -> Drawn:
        """Rays for each item; before that, where it is due, a look for empty space."""
        seen, step = random.items[0], self.config.train.batch_size
        due = seen // self.config.occupancy_every_nimg > (seen - step) // self.config.occupancy_every_nimg
        if due and seen >= self.config.warmup_nimg:
            shared = ItemRandom(self.config.train.seed, [seen // step], "empty space", random.device)
            self.field.find_empty(shared)  # the same on every process
        return self.pixels.draw(random, self.config.background == "random")

    def _losses(self, drawn: Drawn, random: ItemRandom) -> Terms:
        signal = propose(self.field, self.renderer)
        rendering = self.renderer.render(signal, drawn.params, random.stream("render"), background=drawn.background)
        error = (rendering.colour[:, 0, :, 0] - drawn.colour).square().mean()
        losses = {"colour": error}
        if self.config.smoothness:
            losses["smoothness"] = self.config.smoothness * self.field.variation(random.stream("smoothness"))
        if self.config.distortion:
            losses["distortion"] = self.config.distortion * distortion_loss(rendering).mean()
        return Terms(losses, {"psnr": -10 * error.detach().log10(), "occupied": self.field.box.occupied.float().mean()})

    def _judge(self, run: Run, others: dict[str, Evaluation]) -> Evaluation:
        """Judge one field, beside others that were judged on the same views."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = models.load(run.model, self.config.evaluate.chunk_points, device)
        evaluation = evaluate(self.config, model, self.scene, self.lpips, run.samples)
        baselines = {
            name: {key: metric.value for key, metric in other.results.metrics.items()} for name, other in others.items()
        }
        evaluation = evaluation._replace(results=replace(evaluation.results, baselines=baselines))
        evaluation.results.write(run.dir / "metrics.json")
        self._report(run, evaluation, others)
        return evaluation

    def _report(self, run: Run, evaluation: Evaluation, others: dict[str, Evaluation]) -> None:
        results, field = evaluation.results, self.config.field.name
        with run_report(
            run,
            results,
            f"A radiance field of {self.scene.name}",
            f"{field}, {results.images_seen:,} rays seen",
            seen="rays",
            training_s=results.metrics["seconds"].value,
            evaluation_s=evaluation.seconds,
        ) as report:
            if others:
                compare(report, {field: evaluation} | others, self.config.evaluate, self.scene)
            compose(report, self.config, self.scene, evaluation)
