"""Sections that name a component; its own settings are checked in a second phase, by the plugin's own model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from pydantic.fields import FieldInfo

from goembed_core.config.base import Config
from goembed_core.config.check import NOTHING, Given, check, show
from goembed_core.errors import ConfigError, PluginError, UserError
from goembed_core.plugins import Component, PluginHost, host, spoken

REQUIRED: Any = object()


class ComponentConfig(BaseModel):
    """`{"name": NAME, **params}`: which component, and its settings; `"NAME"` alone is short for `{"name": NAME}`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(description="the registered name, or distribution:name")

    _kind: str = PrivateAttr(default="")
    _settings: Any = PrivateAttr(default=None)
    _settings_of: Any = PrivateAttr(default=None)  # the name and params that they are the settings of
    _key: str = PrivateAttr(default="")  # of the section among all settings, once they are resolved

    @model_validator(mode="before")
    @classmethod
    def _read_short_form(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def kind(self) -> str:
        """The kind of component, known from the field that holds this section."""
        return self._kind

    @property
    def params(self) -> dict[str, Any]:
        """The component's settings by name, without its defaults unless they were filled in."""
        return dict(self.model_extra or {})

    @property
    def settings(self) -> Any:
        """The component's settings as an instance of its own model; None if it has none."""
        if self._settings is None or self._settings_of != (self.name, self.params):  # a `model_copy(update=...)`
            return validate_component(self._kind, self)
        return self._settings

    def build(self, like: type | None = None) -> Any:
        """The component itself, made from its settings; what it refuses is told with the section's key.

        **Arguments:**
        - `like`: a Protocol of what is wanted of it here, beyond what all components of its kind have.

        **Raises:** ConfigError where the component has not all that `like` names.
        """
        try:
            built = host().build(self._kind, self.name, self.settings)
        except UserError as error:
            if self._key and not str(error).startswith(self._key):
                error.args = (f"{self._key}: {error}",)
            raise
        wanted = _members(like)
        missing = [name for name in wanted if not hasattr(built, name)]
        if missing:
            section = self._key or self._kind.replace("-", "_")
            raise ConfigError(
                f"{section}.name={show(self.name)}: expected a {spoken(self._kind)} with {', '.join(wanted)}; "
                f"this one has {'none of them' if missing == wanted else 'no ' + ', '.join(missing)}"
            )
        return built

    def of_kind(self, kind: str) -> ComponentConfig:
        """This section, knowing its kind."""
        copy = self.model_copy()
        copy._kind = kind
        return copy

    def resolved(self, settings: Any) -> ComponentConfig:
        """This section with every setting filled in."""
        values = {} if settings is None else {field: getattr(settings, field) for field in type(settings).model_fields}
        section = ComponentConfig(name=self.name, **values).of_kind(self._kind)
        section._settings, section._settings_of = settings, (section.name, section.params)
        section._key = self._key
        return section


def component(
    kind: str, name: str | None = REQUIRED, *, params: Mapping[str, Any] | None = None, description: str = ""
) -> Any:
    """The default of a field that names a component: `denoiser: ComponentConfig = component("denoiser", "dit")`.

    Without a name the section must be given; with `None` (and the type `ComponentConfig | None`) it may be left out.
    """
    about = {"description": description or f"the {spoken(kind)}", "json_schema_extra": {"component": kind}}
    if name is REQUIRED:
        field = Field(**about)
    elif name is None:
        field = Field(default=None, **about)
    else:
        field = Field(default=ComponentConfig(name=name, **(params or {})).of_kind(kind), **about)
    field.metadata.append(AfterValidator(lambda section: section and section.of_kind(kind)))
    return field


def component_kind(field: FieldInfo) -> str | None:
    """The kind of component that a field made by `component` holds."""
    extra = field.json_schema_extra
    return extra.get("component") if isinstance(extra, dict) else None


def _members(like: type | None) -> list[str]:
    """What a Protocol names, in its order."""
    classes = [base for base in like.__mro__ if getattr(base, "_is_protocol", False)] if like else []
    names = [name for base in reversed(classes) for name in (*inspect.get_annotations(base), *vars(base))]
    return list(dict.fromkeys(name for name in names if not name.startswith("_")))


def validate_component(
    kind: str, section: ComponentConfig, host_: PluginHost | None = None, prefix: str = "", given: Given = NOTHING
) -> Any:
    """The section's settings as an instance of the plugin's own model; `prefix` is the section's own key in errors."""
    try:
        found = (host_ or host()).get(kind, section.name)
    except PluginError as error:
        if not prefix:
            raise
        raise PluginError(f"{prefix}={show(section.name)}: {error}", error.remedy) from error
    return _validate(found, section.params, prefix or found.name, given)


def validate_params(found: Component, params: Any) -> Any:
    """`params` (a mapping, a ready instance, or None) as an instance of the component's own model."""
    model = found.load_config()
    if model is not None and isinstance(params, model):
        return params
    return _validate(found, {} if params is None else params, found.name, NOTHING)


def _validate(found: Component, params: Any, prefix: str, given: Given) -> Any:
    model = found.load_config()
    if model is None:
        if params:
            raise ConfigError(f"{prefix}: {spoken(found.kind)} {found.name!r} has no settings, got {', '.join(params)}")
        return None
    if "name" in model.model_fields:
        raise PluginError(f"{found.config} has a field 'name', which in a section is the component's own name")
    return check(model, params, prefix=prefix, given=given)


def resolve_components(config: Any, host_: PluginHost | None = None, prefix: str = "", given: Given = NOTHING) -> Any:
    """The same settings, every section of a component in them checked by its plugin and filled in."""
    changed: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        kind = component_kind(field)
        here = f"{prefix}.{name}" if prefix else name
        if kind and isinstance(value, ComponentConfig):
            settings = validate_component(kind, value, host_, here, given)
            if isinstance(settings, Config):
                settings = resolve_components(settings, host_, here, given)
            changed[name] = value.of_kind(kind).resolved(settings)
            changed[name]._key = here
        elif isinstance(value, Config):
            changed[name] = resolve_components(value, host_, here, given)
    return config.model_copy(update=changed) if changed else config
