"""Opening what a user names: a checkpoint, of the family or not, or a .bhk file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bhk.base.errors import listed
from bhk.base.hashes import sha256
from bhk.base.names import BHK_SUFFIX
from bhk.checkpoint import Checkpoint, NotACheckpointError, of_module
from bhk.checkpoint.layout import Layout, unwrapped, wrapped_modules
from bhk.container.header import ModelEntry
from bhk.container.provenance import made_with
from bhk.container.reader import is_bhk
from bhk.file.bhkfile import open_file
from bhk.hub.address import address_of, public_name
from bhk.hub.download import local_file
from bhk.nn.meta import weights_on_meta
from bhk.sam.architecture import Configured
from bhk.sam.build import build_model
from bhk.sam.configuration import Config, Configuration, ConfigurationError, configuration_of, given_configuration
from bhk.sam.parts import read_whole
from bhk.sam.recognise import Recognised, recognise
from bhk.sam.tree import add_unstated, differences, settings_of
from bhk.sam.variants import CONFIG, VARIANTS, Variant, called_like, published_with, title_of, variants_of


def read_checkpoint(
    src: str | os.PathLike[str] | nn.Module, key: str | None = None, config: Config | None = None
) -> tuple[Checkpoint, Recognised | None]:
    """Read a checkpoint, or a module's state dict, and recognise its model.

    If the model is recognised, the prefix of a wrapper module is stripped from the names. What its tensors do not show is
    taken from `config` (see `bhk.sam.configuration.given_configuration`), else from the module or the configuration beside
    the checkpoint, else from the publisher's file that it is or is called like.

    Raises:
        CheckpointError: see `bhk.checkpoint.read`.
        ConfigurationError: there is no such configuration, or the model has another.
    """
    given = None if config is None else given_configuration(config)
    module = src if isinstance(src, nn.Module) else None
    checkpoint, joined = (of_module(src), None) if isinstance(src, nn.Module) else read_whole(src, key)
    known = None if joined is None else Configuration(VARIANTS[joined].title, variant=joined)
    configuration = given or known or configuration_of(checkpoint, module)
    recognised = recognise(_shapes(checkpoint), configuration)
    if recognised is None or recognised.fault is not None:
        bare = _without_wrappers(checkpoint)
        better = None if bare is None else recognise(_shapes(bare), configuration)
        if bare is not None and better is not None and (recognised is None or better.fault is None):
            checkpoint, recognised = bare, better
    if given is None and recognised is not None and recognised.asks:
        recognised = (
            _as_published(checkpoint, recognised) if module is None else _as_built(checkpoint, recognised, module)
        )
    elif given is None and joined is None and module is None and recognised is not None and recognised.fault is None:
        recognised = _as_prepared(checkpoint, recognised)
    if given is not None:
        check_used(given, checkpoint.source.name, recognised)
    if recognised is None or not recognised.prefix or recognised.beside:
        return checkpoint, recognised
    return _without_prefix(checkpoint, recognised.prefix), replace(recognised, prefix="")


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(tensor.shape)
        for stored, tensor in checkpoint.tensors.items()
        for name in (stored, *checkpoint.aliases.get(stored, ()))
    }


def _without_wrappers(checkpoint: Checkpoint) -> Checkpoint | None:
    """Return a checkpoint without the wrappers of trainers within its names; None if there are none, or they cannot go."""
    names = list(_shapes(checkpoint))
    layout = replace(checkpoint.layout, wrapped=wrapped_modules(names))
    back = {unwrapped(name): name for name in names}
    whole = replace(layout, prefix="", groups=())
    if not layout.wrapped or layout.groups or any(whole.flat(bare) != name for bare, name in back.items()):
        return None
    return None if len(back) < len(names) else _renamed(checkpoint, unwrapped, layout)


def _without_prefix(checkpoint: Checkpoint, prefix: str) -> Checkpoint:
    layout, cut = checkpoint.layout, len(prefix)
    wrapped = tuple(module[cut:] for module in layout.wrapped if module.startswith(prefix))
    layout = replace(layout, prefix=layout.prefix + prefix, wrapped=wrapped)
    return _renamed(checkpoint, lambda name: name[cut:], layout)


def _renamed(checkpoint: Checkpoint, rename: Callable[[str], str], layout: Layout) -> Checkpoint:
    return replace(
        checkpoint,
        tensors={rename(name): tensor for name, tensor in checkpoint.tensors.items()},
        aliases={rename(name): tuple(map(rename, names)) for name, names in checkpoint.aliases.items()},
        layout=layout,
    )


def check_used(given: Configuration, name: str, recognised: Recognised | None) -> Recognised:
    """Return the model in the file `name`, after checking that the configuration that a user gave is one of it.

    Raises:
        ConfigurationError: it is not.
    """
    fault = "it holds no model that bhk recognises" if recognised is None else recognised.fault
    is_named = recognised is not None and recognised.variant is not None and recognised.variant.name == given.variant
    if fault is None and recognised is not None and not (is_named or isinstance(recognised.architecture, Configured)):
        fault = f"it holds {title_of(recognised.entry)}, whose tensors show everything; leave the configuration out"
    if recognised is None or fault is not None:
        raise ConfigurationError(f"{given.origin} is no configuration of {name}: {fault}")
    return recognised


def _as_published(checkpoint: Checkpoint, recognised: Recognised) -> Recognised:
    """Return a model with the settings of the published file that its source is, or is called like."""
    if len(checkpoint.source.files) != 1 or recognised.variant is None:
        return recognised
    file, address = checkpoint.source.files[0], address_of(checkpoint.source.name)
    digest, repository = sha256(file), None if address is None else address.repository
    twins = variants_of(recognised.variant.family, recognised.variant.architecture)
    published = published_with(digest) or _named(checkpoint, twins)
    if published is None:
        return recognised
    found = recognise(_shapes(checkpoint), Configuration(published.title, variant=published.name))
    if found is None or found.fault is not None:
        return recognised
    if digest == published.sha256 or repository == published.hub is not None:
        return found
    return replace(found, note=_because_of_its_name(published))


def _as_prepared(checkpoint: Checkpoint, recognised: Recognised) -> Recognised:
    """Return the model that a source is called like, of those with its tensors whose authors prepare pictures in other ways."""
    twins = variants_of(recognised.family.name, recognised.architecture)
    others = [twin for twin in twins if twin.prepares]
    if not others:
        return recognised
    named = _named(checkpoint, twins)
    if named is None:
        choices = listed([f"{other.name} for {other.title}" for other in others])
        note = f"pictures are prepared as for SAM; if they need another way, say so (--config, or config= in Python): {choices}"
        return replace(recognised, note=note)
    found = recognise(_shapes(checkpoint), Configuration(named.title, variant=named.name)) or recognised
    return replace(found, note=_because_of_its_name(named)) if named.prepares else found


def _named(checkpoint: Checkpoint, twins: Collection[Variant]) -> Variant | None:
    """Return the one of several variants that a source is called like, by its file or by its address."""
    names = [*(file.name for file in checkpoint.source.files[:1]), checkpoint.source.name]
    return next(filter(None, (called_like(twins, name) for name in names)), None)


def _because_of_its_name(variant: Variant) -> str:
    return (
        f"taken for {variant.title} because of its name; if it is another model, or was trained with other settings, "
        "give its configuration (--config, or config= in Python)"
    )


def _as_built(checkpoint: Checkpoint, recognised: Recognised, module: nn.Module) -> Recognised:
    """Return a model with the settings that a module was built with."""
    variant, tree = recognised.variant, recognised.family.tree
    if variant is None or variant.settings is None or tree is None:
        return recognised

    def built(settings: Mapping[str, Any]) -> nn.Module:
        with weights_on_meta():
            return build_model(ModelEntry(variant.family, variant.name, {CONFIG: settings}))

    own = module.get_submodule(checkpoint.layout.flat(recognised.prefix).rstrip("."))
    settings = settings_of(own, built(variant.settings), variant.settings, tree)
    add_unstated(settings, own, differences(own, built(settings)), tree)
    if odd := list(differences(own, built(settings))):
        return replace(recognised, fault=f"bhk does not know how it was built, with another {listed(odd, 3)}")
    return recognise(_shapes(checkpoint), Configuration("the module", settings)) or recognised


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a checkpoint or a .bhk file, decoded one at a time.

    Attributes:
        label: the file's base name, for messages.
        names: all names, including aliases.
        tensor: returns the tensor of a name.
        made_with: how a .bhk file was made; None for a checkpoint.
    """

    label: str
    names: tuple[str, ...]
    tensor: Callable[[str], Tensor]
    made_with: str | None = None


@contextlib.contextmanager
def open_tensors(path: str | os.PathLike[str], key: str | None = None) -> Iterator[TensorFile]:
    """Open a .bhk file or a checkpoint, here or on the Hub. If a folder or repository has both, open the checkpoint.

    Raises:
        HubError, ReadError, FormatError, CheckpointError: it cannot be read.
    """
    label = Path(public_name(path)).name
    checkpoint = _checkpoint(path, key)
    if checkpoint is None:
        with open_file(local_file(path)) as file:
            file.check_size()
            yield TensorFile(label, file.names, file.tensor, made_with(file.container.header))
        return
    yield TensorFile(label, tuple(checkpoint.stored_name), checkpoint.values)


def _checkpoint(path: str | os.PathLike[str], key: str | None) -> Checkpoint | None:
    """Return the checkpoint that a user names, or None if it is a .bhk file."""
    if address_of(path) is None:
        path = local_file(path)
        if is_bhk(path):
            return None
        try:
            return read_checkpoint(path, key)[0]
        except NotACheckpointError as error:
            raise NotACheckpointError(f"{error.marked}; a {BHK_SUFFIX} file is fine, too") from error
    try:
        return read_checkpoint(path, key)[0]
    except NotACheckpointError:  # a repository without one
        return None
