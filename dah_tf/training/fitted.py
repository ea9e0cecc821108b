"""This module prepares the recipe of a method that learns in a single fit.

It sets the features that the method sees, and refuses settings that the method does not use.
"""

from dah_tf import pretrained
from dah_tf.errors import UserError
from dah_tf.runs import presets, workspace
from dah_tf.runs.recipe import Recipe

PHOTO = 224  # pixels; the side of photos for networks of Keras Applications
KINDS = "gist, hog, pixels, run:DIR and application:NAME"


def with_features(recipe: Recipe) -> Recipe:
    """Turns the `features` of a recipe into its backbone, if its method learns in a single fit.

    Args:
        recipe: `Recipe` as the user gave it.

    Returns:
        `Recipe`. If its method is trained by steps, this is the given recipe.

    Raises:
        UserError: the method does not use a setting that is given, or the features do not exist.
    """
    from dah_tf.model import methods

    if recipe.unlabelled and recipe.method is None:
        recipe = recipe.replace(method="itq")
    fits = methods.is_shallow(recipe.method)
    if recipe.unlabelled and not (fits and not methods.get(recipe.method).supervised):
        names = filter(methods.is_shallow, methods.names())
        without = ", ".join(name for name in names if not methods.get(name).supervised)
        raise UserError(
            f"method={recipe.method} learns from labels; the methods for unlabelled data are "
            f"{without}"
        )
    if not fits:
        for name, given in (("features", recipe.features), ("recipe", recipe.recipe == "fitted")):
            if given:
                known = ", ".join(filter(methods.is_shallow, methods.names()))
                raise UserError(
                    f"{name}={getattr(recipe, name)} is for methods that learn in one fit "
                    f"({known}); leave it out"
                )
        return recipe
    _check_of_use(recipe, methods.get(recipe.method).name)
    found = {"precision": "float32" if recipe.precision == "auto" else recipe.precision}
    if recipe.validation is None:
        found["validation"] = 0
    return recipe.replace(**found, **_backbone(recipe))


def _check_of_use(recipe, name):
    """Refuses settings of training by steps.

    A recipe with the preset "fitted" is accepted, because its settings were decided before.
    """
    if recipe.recipe == "fitted":
        return
    given = [each for each in presets.FITTED if each != "mirror"] + ["minutes"]
    given = [each for each in given if getattr(recipe, each) is not None]
    given += ["recipe"] if recipe.recipe != "auto" else []
    if given:
        raise UserError(
            f"{given[0]}={getattr(recipe, given[0])} has no meaning for method={name}, which "
            "learns in one fit; leave it out"
        )


def _backbone(recipe):
    """Returns a dict of the settings that `features` stands for."""
    from dah_tf.model import backbones

    kind, _, rest = (recipe.features or "").partition(":")
    weights = recipe.backbone_weights
    if kind == "run":
        folder = pretrained.folder(rest)
        begun, facts = workspace.read_recipe(folder), workspace.read_data_facts(folder)
        found = {"backbone": begun.backbone, "backbone_weights": rest}
        own = {name: facts[name] for name in ("image_size", "channels")}
        return found | {name: value for name, value in own.items() if not getattr(recipe, name)}
    if kind == "application":
        found = {"backbone": rest}
        found["backbone_weights"] = "imagenet" if weights == "none" else weights
        if recipe.image_size is None and recipe.dataset.startswith(("folder:", "csv:")):
            found["image_size"] = PHOTO
        return found
    if kind:
        if not backbones.facts(recipe.features).fixed:
            raise UserError(f"features={recipe.features} is unknown; there are {KINDS}")
        return {"backbone": recipe.features}
    if weights == "none" and not backbones.facts(recipe.backbone).fixed:
        return {"backbone": "gist"}
    return {}
