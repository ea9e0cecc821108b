"""Flags made from `Recipe`, and flags of version 0.2.0."""

import dataclasses

import pytest

from dah_tf.errors import UserError
from dah_tf.runs.recipe import Recipe
from dah_tf.terminal import cli, settings


def parse(text):
    return settings.parse(text.split())


def test_every_setting_has_its_flag():
    assert parse("") == Recipe()
    recipe = parse(
        "--dataset=digits --bits=24 --noexport --mirror --flip=none --epochs=1.5 --channels=1 "
        "--backbone=compact:depth=3 --method=ce --optimizer=sgd:momentum=0.5 --train_sizes="
    )
    assert recipe == Recipe(
        dataset="digits",
        bits=24,
        export=False,
        mirror=True,
        flip="none",
        epochs=1.5,
        channels=1,
        backbone="compact:depth=3",
        method="ce",
        optimizer="sgd:momentum=0.5",
        train_sizes="",
    )


def test_options_of_one_part_add_up_and_another_part_starts_over(tmp_path):
    config = tmp_path / "a.cfg"
    config.write_text("# a comment\n--method=dah:phi1=0.5,t=3\n--backbone=compact:depth=3\n")
    recipe = parse(f"--flagfile={config} --method=dah:t=12.5 --backbone=resnet30")
    assert recipe.method == "dah:phi1=0.5,t=12.5" and recipe.backbone == "resnet30"


def test_old_flags_become_options_of_their_part(capsys):
    values = settings.flags.FlagValues()
    settings.define(values)
    values(
        [
            "train",
            "--backbone=compact",
            "--widths=96,320,320",
            "--depth=3",
            "--noattention",
            "--t=12.5",
            "--phi1=0.5",
            "--optimizer=muon",
            "--fixed_norm",
            "--ns_steps=3",
        ]
    )
    recipe = settings.recipe(values)
    assert recipe.backbone == "compact:attention=false,widths=96/320/320,depth=3"
    assert recipe.method == "dah:phi1=0.5,t=12.5"
    assert recipe.optimizer == "muon:fixed_norm=true,ns_steps=3"
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 3 and all(note.startswith("note: --") for note in notes)
    assert "--method=dah:phi1=0.5,t=12.5" in notes[1]


def test_an_old_flag_wins_over_the_same_option_of_a_config():
    assert parse("--method=dah:t=3,phi2=2 --t=4").method == "dah:t=4,phi2=2"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("--optimizer=sgd --ns_steps=3", "--ns_steps is an option of --optimizer=muon, not of sgd"),
        ("--backbone=resnet50 --noattention", "option of --backbone=resnet30 or compact, not of"),
        ("--widths=1,2,3", "--widths is an option of --backbone=compact, not of resnet30"),
        ("--momentum=0.5", "--momentum is an option of --optimizer=sgd or muon, not of adam"),
        ("--method=dpsh --phi1=1", "--phi1 is an option of --method=dah, not of dpsh"),
        ("--bits=0", "bits"),
        ("--bits=x", "bits"),
        ("--nonsense=1", "nonsense"),
        ("--method=dah:t=", "is not of the form"),
    ],
)
def test_refuses(text, reason):
    with pytest.raises(UserError) as caught:
        parse(text)
    assert reason in str(caught.value)


def test_given_flags_make_the_same_recipe_again():
    values = settings.flags.FlagValues()
    settings.define(values)
    values(
        [
            "train",
            "--bits=24",
            "--noexport",
            "--method=dah:t=3",
            "--backbone=compact",
            "--widths=1,2,3",
        ]
    )
    again = settings.parse(settings.given(values))
    assert again == settings.recipe(values, quiet=True)


@pytest.mark.parametrize(
    "message, shown",
    [
        ("bits=0 must be at least 1", "--bits=0 must be at least 1"),
        ("raise image_size or train_sizes", "raise --image_size or --train_sizes"),
        ("no test images for protocol=full; use protocol=own", "for --protocol=full; use --proto"),
        ("the note of a seed", "the note of a seed"),
        ("--bits=3 and x/cache_gib", "--bits=3 and x/cache_gib"),
        ("muon:ns_steps=3", "muon:ns_steps=3"),
    ],
)
def test_a_command_writes_arguments_as_flags(message, shown, monkeypatch):
    monkeypatch.setattr(cli, "own_flags", lambda: {f.name for f in dataclasses.fields(Recipe)})
    assert shown in cli.dashed(message)


def test_the_traceback_of_a_users_error_is_shown_on_request(monkeypatch, capsys):
    for wanted, shown in (("0", False), ("1", True)):
        monkeypatch.setenv("DAH_TF_TRACEBACK", wanted)
        with pytest.raises(SystemExit) as ended:
            try:
                raise UserError("bits=0 is wrong")
            except UserError as error:
                cli.fail(error)
        text = capsys.readouterr().err
        assert ended.value.code == 2 and ("Traceback" in text) is shown
        assert text.splitlines()[-1].endswith("bits=0 is wrong")
