"""Settings: what wins, and the text of every error."""

import re
from pathlib import Path
from typing import Protocol

import pytest
from goembed_core import plugins
from goembed_core.config import (
    ComponentConfig,
    ConfigError,
    OptimizerConfig,
    TaskConfig,
    TrainConfig,
    dump_yaml,
    resolve,
    resolve_model,
    resolve_run,
    validate_component,
)
from goembed_core.config.describe import annotate, settings
from goembed_core.config.yaml import dump_tree, load_yaml
from goembed_core.errors import UserError
from goembed_core.plugins import host
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

pytestmark = pytest.mark.usefixtures("toy")


def config(*overrides):
    return resolve("toy", overrides).config


def error(*overrides):
    with pytest.raises(UserError) as caught:
        resolve(None, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f" (in {Path.cwd()})", " (in HERE)")


def test_later_layers_win_and_say_so(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("train: {batch_size: 20, seed: 5}\noptimizer: {lr: 1e-4}\n")
    resolved = resolve("toy", [f"config={file}", "train.seed=7", "--evaluate.contexts=3"])
    train = resolved.config.train
    assert (train.images, train.batch_size, train.seed, train.keep_checkpoints) == (100, 20, 7, 2)
    assert resolved.config.optimizer.lr == 1e-4
    assert resolved.config.evaluate.contexts == 3
    provenance = resolved.provenance
    assert provenance["train.keep_checkpoints"] == "default"
    assert provenance["train.images"] == "preset quick"
    assert provenance["train.batch_size"] == provenance["optimizer.lr"] == str(file)
    assert provenance["train.seed"] == provenance["evaluate.contexts"] == "command line"
    assert provenance["forward_model.sigma_px"] == "default"


def test_preset_and_task_may_come_from_anywhere(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("task: toy\npreset: paper\n")
    resolved = resolve(None, [f"config={file}"])
    assert (resolved.config.preset, resolved.config.train.images) == ("paper", 5000)
    assert resolve(None, [f"config={file}", "preset=quick"]).config.train.images == 100
    assert resolve(None, ["task=toy", "task=toy"]).component.name == "toy"
    assert resolve(None, ["task=goembed-toy:toy"]).config.run_dir.as_posix() == "runs/toy/default"


def test_values_are_json_else_strings():
    assert config("optimizer.lr=1e-4").optimizer.lr == 1e-4
    assert config("optimizer.betas=[0.5,0.9]").optimizer.betas == (0.5, 0.9)
    assert config("train.clip_norm=null").train.clip_norm is None
    assert config("train.images=1e6").train.images == 1_000_000
    assert config("train.mixed_precision=no").train.mixed_precision == "no"
    assert config('train={"seed":3}', "train.images=7").train == TrainConfig(images=7, batch_size=10, seed=3)
    assert config("train.images=7", 'train={"seed":3}').train == TrainConfig(images=7, batch_size=10, seed=3)
    assert config("train.seed=1", "train.seed=2").train.seed == 2
    assert config("run.dir=/a=b").run_dir.as_posix() == "/a=b"


@pytest.mark.parametrize("text", ["1", "1e3", "true", "null", "007", '"quoted"', "[1]"])
def test_a_string_stays_as_it_was_typed(text):
    expected = "quoted" if text.startswith('"') else text
    assert config(f"run.name={text}").run.name == expected
    assert config(f"forward_model.label={text}").forward_model.settings.label == expected


ERRORS = {
    "train.lrr=1": "train.lrr=1: there is no such key; did you mean optimizer.lr?",
    "lr=1": "lr=1: there is no such key; did you mean optimizer.lr?",
    "train.imges=1": "train.imges=1: there is no such key; did you mean train.images?",
    "trian.images=1": "trian: there is no such section; did you mean train?",
    "evaluate.zzz=1": "evaluate.zzz=1: there is no such key; keys of evaluate: evaluate.contexts, evaluate.weights, "
    "evaluate.limit",
    "train.images=abc": "train.images='abc': Input should be a valid integer, unable to parse string as an integer",
    "train.images=0": "train.images=0: Input should be greater than 0",
    "train.log_every_nimg=0": "train.log_every_nimg=0: Input should be greater than 0",
    "train.evaluate_every_nimg=-1": "train.evaluate_every_nimg=-1: Input should be greater than or equal to 0",
    "train.mixed_precision=fp8": "train.mixed_precision='fp8': Input should be 'auto', 'no', 'fp16', 'bf16' or "
    "'bf16-if-native'",
    "train.micro_batch_size=3": "train: batch_size=10 is not a multiple of micro_batch_size=3",
    "optimizer.betas=[0.9]": "optimizer.betas=[0.9]: expected at least 2 values",
    "optimizer.betas=[0.9,1]": "optimizer.betas.1=1: Input should be less than 1",
    "optimizer=3": "optimizer=3: expected a section; its keys are optimizer.lr, optimizer.betas, optimizer.eps, "
    "optimizer.weight_decay, optimizer.warmup_nimg, optimizer.decay, optimizer.muon_lr, optimizer.muon_modules, "
    "optimizer.module_lr",
    "evaluate.weights.a=x": "evaluate.weights.a='x': Input should be a valid number, unable to parse string as a "
    "number",
    "forward_model=blurr": "forward_model='blurr': forward model 'blurr' is not registered; did you mean "
    "'blur'?; available: blur, identity",
    "forward_model.sigma=1": "forward_model.sigma=1: there is no such key; did you mean forward_model.sigma_px?",
    "forward_model.sigma_px=x": "forward_model.sigma_px='x': Input should be a valid number, unable to parse string as "
    "a number",
    "forward_model.encoder.size=1": "forward_model.encoder.name: is required; give forward_model.encoder.name=VALUE",
    'forward_model.encoder={"name":"embed","sise":1}': "forward_model.encoder.sise=1: there is no such key; did you "
    "mean forward_model.encoder.size?",
    "dataset.path=a": "dataset.name: is required; give dataset.name=VALUE",
    "preset=papr": "preset=papr: task 'toy' has no such preset; did you mean 'paper'?; available: quick, paper, wrong",
    "preset=wrong": "train.imags=5000: there is no such key; did you mean train.images? (from preset wrong)",
    "toy": "'toy' is not of the form key=value",
    "=1": "'=1' is not of the form key=value",
    "train..images=1": "'train..images=1' is not of the form key=value",
    "foo=1": "foo=1: there is no such key; keys: task, preset, run, train, optimizer, forward_model, dataset, "
    "sampler, evaluate",
    "tra\nin=1": "tra\\nin=1: there is no such key; did you mean train?",
    "task.name=1": "task.name=1: there is no such key; task is a name, not a section",
    "train.images=true": "train.images=true: expected a number, not true",
    f"train.seed={10**20}": f"train.seed={10**20}: expected a whole number of at most 9.22e+18",
    "optimizer.lr=NaN": "optimizer.lr=NaN: Input should be a finite number",
    "optimizer.lr=1e999": "optimizer.lr=Infinity: Input should be a finite number",
    "evaluate.weights.a=-Infinity": "evaluate.weights.a=-Infinity: Input should be a finite number",
    "train.trackers=wandb": "train.trackers='wandb': expected a list, as in train.trackers='[1,2]' or "
    "train.trackers='[\"a\"]'",
    "train.mixed_precision=fp1": "train.mixed_precision='fp1': Input should be 'auto', 'no', 'fp16', 'bf16' or "
    "'bf16-if-native'; did you mean 'fp16'?",
    'train.trackers=["tensorbord"]': "train.trackers.0='tensorbord': Input should be 'all', 'aim', 'clearml', "
    "'comet_ml', 'dvclive', 'mlflow', 'swanlab', 'tensorboard', 'trackio' or 'wandb'; did you mean 'tensorboard'?",
    "run.dir=": "run.dir='': expected a path, got an empty text",
    f"run.dir=a/{'b' * 300}": f"run.dir='a/{'b' * 74}...: expected a path of at most 4096 bytes, and no more than 255 "
    "between two '/'",
    'run.dir="a\\u0000b"': "run.dir='a\\x00b': holds a NUL character, which no text or path can have",
    "run.name=../x": "run.name='../x': expected the name of one folder, of at most 255 bytes; for another place give "
    "run.dir=PATH",
    'optimizer={"lr":1,"lr":2}': "optimizer: key 'lr' is given twice",
    f"optimizer.lr={'[' * 100_000}": "optimizer.lr: more than 64 sections or lists within each other",
    f"optimizer.lr={'[' * 500 + ']' * 500}": "optimizer.lr: more than 64 sections or lists within each other",
    f"{'a.' * 1000}a=1": f"{'a.' * 40}: more than 64 sections or lists within each other",
    "config=nowhere.yaml": "config=nowhere.yaml (in HERE): there is no such file",
}


@pytest.mark.parametrize("override", ERRORS)
def test_errors(override):
    assert error("task=toy", override) == ERRORS[override]


def test_several_errors_are_told_at_once():
    text = error("task=toy", "train.images=0", "optimizer.lr=x", "forward_model.sigma=1")
    assert text == (
        "train.images=0: Input should be greater than 0; "
        "optimizer.lr='x': Input should be a valid number, unable to parse string as a number"
    )


def test_errors_of_the_task_itself():
    assert error() == "which task? give task=NAME; available: toy"
    assert error("task=") == "task=: expected a name"
    assert error("task=toi") == "task 'toi' is not registered; did you mean 'toy'?; available: toy"
    assert error("task=toy", "config=a", "config=b") == "config is given twice: a and b"
    assert error("task=toy", "train=3", "train.seed=1").startswith("train is given both as 3 and by its keys")
    with pytest.raises(ConfigError, match="task=other: these are settings of task 'toy'"):
        resolve("toy", ["task=other"])


LAUGHS = "\n".join(f"{key}: &{key} [{', '.join([f'*{below}' if below else '1'] * 9)}]" for below, key in zip(
    ["", *"abcdefgh"], "abcdefghi", strict=True
))  # fmt: skip


def test_errors_of_files(tmp_path):
    file = tmp_path / "a.yaml"
    cases = {
        "train: [": "not YAML: while parsing",
        "train: {seed: 1, seed: 2}": "key 'seed' is given twice",
        "- 1": "expected a mapping of keys to values, got list",
        "1: 2": "the key 1 is not a word; expected the name of a setting",
        "train: {1: 2}": "the key 1 in train is not a word; expected the name of a setting",
        "train: {images: -1}": f"train.images=-1: Input should be greater than 0 (from {file})",
        "forward_model: {name: blur, sigma_px: -1}": f"forward_model.sigma_px=-1: Input should be greater than 0 "
        f"(from {file})",
        "task: [1]": "task=[1]: expected a name",
        "? [1]\n: 2": "expected a word as a key",
        "train.seed: 1": "train.seed=1: there is no such key with a dot in its name; did you mean train: {seed: 1}?",
        "train: &a {images: *a}": "a reference to what it is part of",
        LAUGHS: "its references make it more than 100000 values",
        f"train: {{seed: {'9' * 5000}}}": "not YAML: Exceeds the limit",
        f"train: {'[' * 10_000}": "not YAML: ",
        f"train: {'[' * 100 + ']' * 100}": "not YAML: more than 64 sections or lists within each other",
    }
    for text, expected in cases.items():
        file.write_text(text)
        assert expected in error(f"config={file}", *([] if "task" in text else ["task=toy"]))
    file.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in error("task=toy", f"config={file}")


def test_yaml_is_1_2(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("task: toy\ntrain: {mixed_precision: no, clip_norm: 1e-4}\nrun: {name: 1:30}\n")
    resolved = resolve(None, [f"config={file}"]).config
    assert resolved.train.mixed_precision == "no"
    assert resolved.train.clip_norm == 1e-4
    assert resolved.run.name == "1:30"
    assert load_yaml("[1e-4, .5, -1.e3, 010, 1_000, yes, On, ~, null, '', true, 0x1f, .inf]") == [
        1e-4, 0.5, -1000.0, 10, "1_000", "yes", "On", None, None, "", True, "0x1f", float("inf"),
    ]  # fmt: skip
    assert TrainConfig(mixed_precision=False).mixed_precision == "no"  # as YAML 1.1 would have read it


TEXTS = st.text(max_size=6)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXTS, SCALARS, max_size=3)
TREES = st.dictionaries(TEXTS, VALUES | st.lists(VALUES, max_size=3), max_size=4)


@examples(max_examples=30, deadline=None)
@given(TREES)
def test_any_yaml_written_is_read_back(tree):
    assert load_yaml(dump_tree(tree)) == tree


@pytest.mark.parametrize(
    "text",
    ["no", "1e-4", "1_000", "010", "0x1f", "1:30", "null", "~", "", "true", "a\nb", "\x85", "a\u2028b", "=", "<<"],
)
def test_a_string_is_quoted_where_either_yaml_would_misread_it(text):
    assert load_yaml(dump_tree({"key": text, text: 1})) == {"key": text, text: 1}
    assert len(dump_tree({"key": text}).splitlines()) == 1  # `annotate` comments by line


def test_a_resolved_config_is_complete_and_repeats_itself(tmp_path):
    first = config("forward_model.encoder=embed", "optimizer.eps=1e-9", "run.name=no", "evaluate.weights.b=2")
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(first))
    assert "sigma_px: 2.0" in file.read_text()
    assert "size: 8" in file.read_text()
    second = resolve(None, [f"config={file}"])
    assert second.config == first
    assert set(second.provenance.values()) == {str(file), "command line", "default"} - {"command line", "default"}


def test_a_run_is_resolved_from_where_it_lies(tmp_path):
    run = tmp_path / "moved"
    run.mkdir()
    (run / "config.yaml").write_text(dump_yaml(config("run.dir=/elsewhere", "train.images=77")))
    resolved = resolve_run(run, ["evaluate.contexts=3"])
    assert (resolved.config.run_dir, resolved.config.train.images) == (run, 77)
    assert resolved.config.evaluate.contexts == 3
    with pytest.raises(ConfigError, match=r"is not a run: it has no config\.yaml"):
        resolve_run(tmp_path)


def test_choosing_another_component_drops_the_settings_of_the_one_before():
    assert config().forward_model.settings.sigma_px == 2.0
    assert config("forward_model=identity").forward_model.params == {}
    assert config("forward_model.name=identity", "preset=paper").forward_model.params == {}
    assert config("forward_model=blur", "forward_model.sigma_px=3").forward_model.settings.sigma_px == 3.0
    resolved = resolve("toy", ["preset=paper", "forward_model.sigma_px=3", "forward_model=goembed-toy:blur"])
    blur = resolved.config.forward_model.settings
    assert (blur.sigma_px, blur.label) == (3.0, "none")
    assert resolved.provenance["forward_model.label"] == "default"  # not "preset paper"
    assert resolved.provenance["forward_model.name"] == "command line"
    text = error("task=toy", "forward_model=identity", "forward_model.sigma_px=3")
    assert text == "forward_model: forward model 'identity' has no settings, got sigma_px"


def test_components_are_checked_and_built_wherever_they_stand():
    resolved = config("forward_model.encoder.name=embed", "forward_model.encoder.size=4")
    section = resolved.forward_model
    assert section.kind == "forward-model"
    assert section.params["label"] == "none"
    assert section.build().config is section.settings
    assert section.settings.encoder.kind == "encoder"
    assert section.settings.encoder.build().config.size == 4
    assert resolved.dataset is None


def test_a_law_of_a_chosen_component_is_told_by_its_section(toy):
    toy.install("goembed-law", "law", LAW)
    plugins.host.cache_clear()
    text = error("task=toy", "forward_model=law", "forward_model.low=2")
    assert text == "forward_model: low=2 is above high=1"


LAW = """
from goembed_core.config import Config
from goembed_core.plugins import hookimpl
from pydantic import model_validator


class LawConfig(Config):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _check(self):
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}")
        return self


@hookimpl
def goembed_register(register):
    register("forward-model", "law", "builtins:object", config=f"{__name__}:LawConfig")
"""


def test_components_work_without_resolving():
    model = host().get("task", "toy").load_config()
    assert model().forward_model.build().config.sigma_px == 2.0
    given = model(forward_model={"name": "blur", "sigma_px": 5})
    assert given.forward_model.kind == "forward-model"
    assert given.forward_model.build().config.sigma_px == 5.0
    assert model(forward_model="identity").forward_model.settings is None
    with pytest.raises(ConfigError, match=r"^blur.sigma=1: there is no such key; did you mean blur.sigma_px\?"):
        validate_component("forward-model", ComponentConfig(name="blur", sigma=1))


class Sized(Protocol):
    """What a section may ask for."""

    size: int

    def forward(self, x): ...


class SizedMore(Sized, Protocol):
    config: object


def test_a_component_without_what_is_wanted_is_refused_with_the_key(toy):
    section = config("forward_model.encoder=embed").forward_model
    told = "forward_model.name='blur': expected a forward model with size, forward; this one has none of them"
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}$"):
        section.build(like=Sized)
    with pytest.raises(
        ConfigError, match=r"^forward_model\.encoder\.name='embed': .* encoder with size, forward, config; "
    ):
        section.settings.encoder.build(like=SizedMore)
    with pytest.raises(ConfigError, match=r"this one has no size, forward$"):
        section.build(like=SizedMore)
    assert section.build(like=Protocol).config is section.settings


def test_what_a_component_refuses_is_told_with_the_key(toy):
    toy.install("goembed-fussy", "fussy", FUSSY)
    plugins.host.cache_clear()
    section = config("forward_model=fussy").forward_model
    with pytest.raises(UserError, match=r"^forward_model: set `path`$"):
        section.build()


FUSSY = """
from goembed_core.errors import UserError
from goembed_core.plugins import hookimpl


def refuse():
    raise UserError("set `path`")


@hookimpl
def goembed_register(register):
    register("forward-model", "fussy", f"{__name__}:refuse")
"""


def test_a_changed_copy_of_a_section_has_the_changed_settings():
    section = config("forward_model.encoder=embed").forward_model
    assert section.settings is section.settings  # kept, as nothing has changed
    wider = section.model_copy(update={"sigma_px": 5.0})
    assert (wider.settings.sigma_px, section.settings.sigma_px) == (5.0, 2.0)
    assert wider.settings.encoder == section.settings.encoder and wider.build().config == wider.settings
    assert section.model_copy(update={"sigma_px": 2.0}).settings is section.settings
    with pytest.raises(ConfigError, match=r"blur\.sigma_px=-1: Input should be greater than 0"):
        _ = section.model_copy(update={"sigma_px": -1}).settings
    with pytest.raises(ConfigError, match="forward model 'identity' has no settings"):
        _ = section.model_copy(update={"name": "identity"}).settings


def test_resolving_leaves_the_defaults_alone():
    config("evaluate.weights.b=2", "forward_model.sigma_px=9")
    assert config().evaluate.weights == {"a": 1.0}
    assert config().forward_model.settings.sigma_px == 2.0


def test_settings_are_frozen_and_closed():
    with pytest.raises(ValidationError, match="frozen"):
        config().train.seed = 3
    with pytest.raises(ValidationError, match="Extra inputs"):
        OptimizerConfig(lr=1, beta=2)


def test_any_model_can_be_resolved():
    resolved = resolve_model(OptimizerConfig, ["lr=0.5", "decay=cosine"])
    assert resolved.config == OptimizerConfig(lr=0.5, decay="cosine")
    with pytest.raises(ConfigError, match="lr: is required; give lr=VALUE"):
        resolve_model(OptimizerConfig, [])


def test_every_common_setting_is_documented():
    class Common(TaskConfig):
        task: str = "common"

    for item in settings(resolve_model(Common, [])):
        assert item.description, item.key


def test_the_description_of_each_leaf():
    items = {item.key: item for item in settings(resolve("toy", ["train.clip_norm=2", "optimizer.betas=[0,0]"]))}
    assert items["train.clip_norm"][1:4] == ("float or null", 2.0, "command line")
    assert items["train.mixed_precision"].type == "auto|no|fp16|bf16|bf16-if-native"
    assert items["optimizer.betas"].type == "tuple[float, float]"
    assert items["train.images"].source == "preset quick"
    assert items["forward_model.name"].value == "blur"
    assert items["forward_model.sigma_px"].description == "width of the blur"
    assert items["dataset"].type == "name or null"
    assert set(items) - {"forward_model.name"} <= set(resolve("toy", []).provenance)
    assert items["evaluate.weights.a"][1:4] == ("float", 1.0, "default")


def test_annotated_yaml_is_the_same_yaml():
    resolved = resolve("toy", ["train.seed=3", "run.name=a b # c", "optimizer.betas=[0.5,0.9]"])
    text = dump_yaml(resolved.config)
    annotated = annotate(text, resolved.provenance)
    assert load_yaml(annotated) == load_yaml(text)
    lines = [line.strip() for line in annotated.splitlines()]
    assert "seed: 3  # command line" in lines
    assert "images: 100  # preset quick" in lines
    assert "betas: [0.5, 0.9]  # command line" in lines
    assert "keep_checkpoints: 2" in lines
