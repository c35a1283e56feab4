"""Models put together from nested settings, as the YAML files of `sam2` and of what grew from it describe them.

Each family's table says which class stands at each place; the settings of one model come from the table of published models
or from a YAML file. A file never names a class to import: it can only choose among those of the table.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bhk.base.errors import shown
from bhk.sam.settings import SettingError, check_settings

if TYPE_CHECKING:
    from torch import nn

Settings = Mapping[str, Any]
CLASS = "class"  # the setting that chooses a class where a family has several
_TARGET = "_target_"
_EXPONENT = re.compile(r"[-+]?\d+e[-+]?\d+")  # such as 1e-6, which YAML 1.1 takes for text
_DEEPEST = 16
_PLAIN = (bool, int, float, str, tuple, list)
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True)
class Tree:
    """How the models of a family are put together.

    Attributes:
        classes: place, such as "image_encoder.trunk", or "" for the model -> its class, from the package's name on; where a
            model may have one of several, the first is the usual one.
        of_model: settings of the model itself that a YAML file may have. Its others are about training or tracking.
        video: the class that follows objects through a clip, in place of the one at ""; None if there is none.
        for_video: its further settings.
        kept_as: setting -> paths to the attributes in which a class keeps it under another name.
    """

    classes: Mapping[str, tuple[str, ...]]
    of_model: frozenset[str]
    video: str | None = None
    for_video: Mapping[str, Any] = field(default_factory=dict)
    kept_as: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def class_at(self, place: str, settings: Settings) -> str | None:
        """Return the class at a place; None if settings there are plain values.

        Raises:
            SettingError: the settings choose a class that the family does not have there.
        """
        choices = self.classes.get(place)
        if choices is None:
            return None
        name = settings.get(CLASS, _name(choices[0]))
        found = next((choice for choice in choices if _name(choice) == name), None)
        if found is None:
            expected = " or ".join(map(_name, choices))
            raise SettingError(f"class {shown(name, 60)!r} at {place or 'the top'}; expected {expected}")
        return found


def build_tree(package: ModuleType, tree: Tree, settings: Settings, *, video: bool = False) -> nn.Module:
    """Build a model from its settings; with `video`, of the class that follows objects through a clip.

    Raises:
        SettingError: the settings are not plain, or the family has no such model.
        AttributeError, ImportError: the package lacks a class.
        TypeError: a class does not have one of the settings.
    """
    check_settings(settings)
    if video and tree.video is not None:
        tree, settings = replace(tree, classes={**tree.classes, "": (tree.video,)}), {**settings, **tree.for_video}
    model: nn.Module = _build(package, tree, settings, "")
    return model


def _build(package: ModuleType, tree: Tree, settings: Settings, place: str) -> Any:
    name = tree.class_at(place, settings)
    values = {
        key: _build(package, tree, value, f"{place}.{key}".strip(".")) if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if key != CLASS
    }
    if name is None:
        return values
    where, _, kind = name.rpartition(".")
    module = importlib.import_module(f"{package.__name__}.{where}")
    made = getattr(module, kind)
    known = inspect.signature(made).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    if (odd := values.keys() - known.keys()) and not takes_any:
        raise SettingError(f"{kind} has no setting {shown(sorted(odd)[0], 60)}")
    with _nothing_downloaded(module):
        return made(**values)


@contextlib.contextmanager
def _nothing_downloaded(module: Any) -> Iterator[None]:
    """Keep a module from loading timm's own weights, which those of the file replace."""
    create = getattr(module, "create_model", None)
    if create is None:
        yield
        return
    module.create_model = lambda *args, **options: create(*args, **{**options, "pretrained": False})
    try:
        yield
    finally:
        module.create_model = create


def settings_of(module: nn.Module, usual: nn.Module, settings: Settings, tree: Tree) -> dict[str, Any]:
    """Return the settings that a module was built with.

    Args:
        module: the module.
        usual: another one of its class, built from `settings`.
        settings: those of `usual`; what the two keep of theirs in different ways is replaced.
        tree: how both are put together.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        own, other = (_kept(of, key, tree) for of in (module, usual))
        if isinstance(value, Mapping) and hasattr(own, "parameters") and hasattr(other, "parameters"):
            found[key] = settings_of(own, other, value, tree)
        elif isinstance(other, Mapping) and isinstance(own, Mapping | None):  # further arguments, or none of them
            found[key] = dict(own or {})
        elif not isinstance(own, _PLAIN) or own == other:
            found[key] = copy.deepcopy(value)
        else:
            found[key] = own
    return found


def add_unstated(settings: dict[str, Any], module: nn.Module, names: Iterable[str], tree: Tree) -> None:
    """Add to the settings of a module those that it keeps under these names and that its settings do not state."""
    for name in names:
        place, _, key = name.rpartition(".")
        part, node = module.get_submodule(place), settings
        for step in filter(None, place.split(".")):
            node = node.get(step, {})
        known = inspect.signature(type(part)).parameters if place else tree.of_model
        if place in tree.classes and key in known:
            node[key] = _listed(getattr(part, key))


def _kept(module: nn.Module, key: str, tree: Tree) -> Any:
    """Return what a module keeps of an argument; of a layer, it keeps copies only. None if it keeps nothing."""
    for path in (*tree.kept_as.get(key, ()), key, f"{key}s.0"):
        node: Any = module
        for step in path.split("."):
            node = node.keywords if isinstance(node, partial) else node
            node = node.get(step) if isinstance(node, Mapping) else getattr(node, step, None)
        if node is not None:
            return _listed(node)
    return None


def _listed(value: Any) -> Any:
    """Return a sequence of numbers, such as a tuple or one of omegaconf, as a list."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def differences(module: nn.Module, other: nn.Module) -> Iterator[str]:
    """Yield where two modules of the same structure have different numbers, flags or words, such as "trunk.window_spec"."""
    others = dict(other.named_modules())
    for name, own in module.named_modules():
        theirs = vars(others[name]) if name in others else {}
        for key, value in vars(own).items():
            arguments, expected = (_listed(_arguments(of)) for of in (value, theirs.get(key, value)))
            if key != "training" and isinstance(arguments, _PLAIN) and arguments != expected:
                yield f"{name}.{key}".strip(".")


def _arguments(value: Any) -> Any:
    """Return the arguments that a module keeps within a function, as attention keeps the base of its rotary positions."""
    return tuple(sorted(value.keywords.items())) if isinstance(value, partial) else value


def settings_in(document: object, tree: Tree) -> dict[str, Any]:
    """Return the settings of a model in the content of a YAML file, of a model or of its training.

    Raises:
        SettingError: it describes no model of the family.
    """
    top = document if isinstance(document, Mapping) else {}
    trainer = top.get("trainer")
    model = top.get("model") or (trainer.get("model") if isinstance(trainer, Mapping) else None)
    if not isinstance(model, Mapping) or _TARGET not in model:
        raise SettingError("no model; expected the settings of one under `model`")
    settings: dict[str, Any] = _settings(_resolved(model, top, 0), tree, "")
    check_settings(settings)
    return settings


def _settings(node: Mapping[str, Any], tree: Tree, place: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    target = node.get(_TARGET)
    if place and target is not None:
        found[CLASS] = str(target).rpartition(".")[2]
        if tree.class_at(place, found) is None:
            raise SettingError(f"{shown(target, 80)} at {place}, where the family has no part")
        if found[CLASS] == _name(tree.classes[place][0]):
            del found[CLASS]
    for key, value in node.items():
        if key == _TARGET or (not place and key not in tree.of_model):
            continue
        inner = f"{place}.{key}".strip(".")
        found[key] = _settings(value, tree, inner) if isinstance(value, Mapping) else value
    return found


def _resolved(value: Any, top: Mapping[str, Any], deep: int) -> Any:
    """Return a value of a YAML file with its references, such as ${scratch.resolution}, replaced by what they refer to."""
    if deep > _DEEPEST:
        raise SettingError("settings or references nested too deep")
    if isinstance(value, Mapping):
        return {str(key): _resolved(item, top, deep + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, top, deep + 1) for item in value]
    found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value
    node: Any = top
    for step in found[1].split("."):
        if not isinstance(node, Mapping) or step not in node:
            raise SettingError(f"a reference to {shown(found[1], 60)}, which is not there")
        node = node[step]
    if isinstance(node, Mapping | list):
        raise SettingError(f"a reference to {shown(found[1], 60)}, which is not a single value")
    return _resolved(node, top, deep + 1)


def _name(path: str) -> str:
    return path.rpartition(".")[2]
